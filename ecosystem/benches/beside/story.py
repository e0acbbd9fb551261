"""The same story with Python's requests and urllib3: requests per second compared with Python's
http.client, and new connections per 100 requests that are retried.

    cargo bench -p tower-outbound-ecosystem --bench beside -- serve   # prints its address
    python3 ecosystem/benches/beside/story.py ADDRESS
"""

import http.client
import sys
import time
import uuid

try:
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
except ImportError as missing:
    sys.exit(f"skipped: {missing}")

COOKIES = {"sessionid": "7f3a9c51e0b24d68", "csrftoken": "Qm9yZWRvbTIwMjY", "theme": "dark",
           "locale": "en-GB", "consent": "yes"}
RETRY = urllib3.Retry(total=3, status_forcelist=[503], backoff_factor=0)
REQUESTS, ROUNDS = 500, 7


def connections(base):
    """How many connections the server has accepted, this one included."""
    return int(requests.get(base + "/connections", headers={"Connection": "close"}).text)


def with_requests(base):
    session = requests.Session()
    session.mount(base, HTTPAdapter(max_retries=RETRY))
    session.cookies.update(COOKIES)
    return lambda path: session.get(base + path).status_code


def with_urllib3(base):
    pool = urllib3.PoolManager(retries=RETRY)
    cookies = "; ".join(f"{name}={value}" for name, value in COOKIES.items())
    return lambda path: pool.request("GET", base + path, headers={"Cookie": cookies}).status


def with_http_client(base):
    connection = http.client.HTTPConnection(base.removeprefix("http://"))

    def get(path):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status

    return get


def seconds(get):
    get("/items/42")
    began = time.perf_counter()
    for _ in range(REQUESTS):
        assert get("/items/42") == 200
    return time.perf_counter() - began


def main():
    base = "http://" + sys.argv[1]
    clients = {"http.client": with_http_client, "urllib3": with_urllib3, "requests": with_requests}
    rounds = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name, client in clients.items():
            rounds[name].append(seconds(client(base)))
    print(f"{'':14} {'requests/s, ratio':>18} {'new connections per 100 retried (64 KiB)':>42}")
    for name, client in clients.items():
        ratios = sorted(bare / own for bare, own in zip(rounds["http.client"], rounds[name]))
        if name == "http.client":
            opened = "no retries"
        else:
            get = client(base)
            get("/items/42")
            before, story = connections(base), uuid.uuid4()
            for nth in range(100):
                assert get(f"/flaky/65536/{story}/{nth}") == 200
            # Less the second count's own.
            opened = connections(base) - before - 1
        print(f"{name:14} {ratios[len(ratios) // 2]:18.3f} {opened:>42}")


main()
