"""The wire itself, asked by plain HTTP: what no client library shows.

One test or one small group per item of the emulator's conformance list. Nothing follows redirects
here, so every hop is looked at on its own.
"""

from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urljoin, urlsplit

import pytest

from catalogue import LEGACY_DATE, ODD_NAME
from support import Answer, fetch

SHA = re.compile(r"[0-9a-f]{40}")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def listing(server, **query) -> list[dict]:
    answer = server.get("/api/models?" + urlencode(query, doseq=True))
    assert answer.status == 200, answer
    return answer.json()


def pages(server, path: str) -> list[list[dict]]:
    """Follows the `next` links to the last page."""
    found, url = [], server.hub + path
    while url:
        answer = fetch("GET", url)
        assert answer.status == 200, answer
        found.append(answer.json())
        url = next_link(answer)
        assert len(found) < 100, "the pages do not end"
    return found


def next_link(answer: Answer) -> str | None:
    link = answer.headers.get("link")
    if link is None:
        return None
    match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert match, f"Link: {link}"
    return match[1]


def expect_error(answer: Answer, status: int, code: str | None) -> None:
    assert answer.status == status, answer
    assert answer.headers.get("x-error-code") == code, answer
    assert answer.headers["x-error-message"], answer


@pytest.fixture(scope="module")
def head_sha(server):
    return lambda repo_id: server.get(f"/api/models/{repo_id}").json()["sha"]


class TestTransport:
    """11.1"""

    def test_two_origins(self, server):
        hub, cdn = urlsplit(server.hub), urlsplit(server.cdn)
        assert (hub.scheme, hub.hostname) == (cdn.scheme, cdn.hostname) == ("http", "127.0.0.1")
        assert hub.port != cdn.port
        assert server.signed("acme/tiny", "model.safetensors").startswith(server.cdn + "/")

    @pytest.mark.parametrize(
        "path",
        [
            "/api/models?limit=3&sort=createdAt&direction=1",
            "/api/models/acme/tiny",
            "/api/models/acme/tiny?blobs=true",
            "/api/models/acme/tiny/revision/main",
            "/api/models/acme/tiny/tree/main?recursive=true",
            "/acme/tiny/resolve/main/config.json",
            "/acme/tiny/resolve/main/model.safetensors",
            "/acme/tiny/resolve/main/absent.json",
            "/acme/gated/resolve/main/config.json",
            "/api/models/acme/renamed-old",
            "/api/models/acme/absent",
            "/api/models?expand=nonsense",
        ],
    )
    def test_head_is_get_without_a_body(self, server, path):
        get, head = server.get(path), server.head(path)
        assert (head.status, head.body) == (get.status, b""), head
        # These may differ from one request to the next.
        vary = {"date", "ratelimit", "ratelimit-policy", "x-request-id", "location", "content-length"}
        assert {k: v for k, v in head.headers.items() if k not in vary} == {
            k: v for k, v in get.headers.items() if k not in vary
        }
        if "content-length" in head.headers:
            assert head.headers["content-length"] == get.headers["content-length"]
        assert ("location" in head.headers) == ("location" in get.headers)

    def test_head_on_resolve_cache_and_cdn(self, server, hub_folder):
        repo = hub_folder["acme/tiny"]
        second = urljoin(server.hub, server.get("/acme/tiny/resolve/main/config.json").location)
        for url, file in [
            (second, repo["config.json"]),
            (server.signed("acme/tiny", "model.safetensors"), repo["model.safetensors"]),
        ]:
            head = fetch("HEAD", url)
            assert (head.status, head.body) == (200, b""), head
            assert head.headers["content-length"] == str(len(file.data))
            assert head.headers["etag"] == fetch("GET", url).headers["etag"]

    def test_unknown_query_and_headers_are_ignored(self, server):
        plain = listing(server, sort="createdAt", direction=1)
        assert listing(server, sort="createdAt", direction=1, library="timm", colour="blue") == plain
        answer = server.get("/api/models/acme/tiny?colour=blue", **{"X-Colour": "blue", "X-HF-Download-Counter": "1"})
        assert answer.status == 200, answer

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "path",
        [
            "/datasets/Salesforce/wikitext/nothing/of/the/kind",
            "/api/datasets",
            "/api/nothing/of/the/kind",
            "/a/b/c/d/e/f",
        ],
    )
    def test_unknown_routes_are_404(self, server, method, path):
        assert server.send(method, path).status == 404

    @pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
    def test_one_json_line_and_a_clean_end(self, start, sig):
        server = start()
        server.get("/api/models")
        assert server.stop(sig) == 0, server.said()
        assert len(server.lines) == 1
        assert sorted(json.loads(server.lines[0])) == ["cdn", "hub"]


class TestRateLimits:
    """11.1.3, 11.5.20"""

    LIMITS = ("limits.api=50", "limits.resolvers=60", "limits.pages=70", "limits.window_seconds=300")

    @staticmethod
    def remaining(answer: Answer, bucket: str, quota: int, window: int = 300) -> int:
        limit = re.fullmatch(r'"(\w+)";\s*r=(\d+);\s*t=(\d+)', answer.headers["ratelimit"])
        policy = re.fullmatch(r'"fixed window";\s*"(\w+)";\s*q=(\d+);\s*w=(\d+)', answer.headers["ratelimit-policy"])
        assert limit and policy, answer
        assert limit[1] == policy[1] == bucket, answer
        assert (int(policy[2]), int(policy[3])) == (quota, window)
        assert 0 <= int(limit[3]) <= window
        return int(limit[2])

    @pytest.fixture(scope="class")
    @classmethod
    def limited(cls, start):
        return start(*cls.LIMITS)

    def test_api_bucket_counts_every_answer(self, limited):
        asked = [
            limited.get("/api/models?limit=2"),
            limited.head("/api/models/acme/tiny"),
            limited.get("/api/models/acme/renamed-old"),  # 307
            limited.get("/api/models?expand=nonsense"),  # 400
            limited.get("/api/models/acme/absent"),  # 401
            limited.get("/api/models/acme/tiny/revision/absent"),  # 404
            limited.get("/api/models/acme/tiny/tree/main"),
            limited.send("POST", "/api/models/acme/tiny/paths-info/main", FORM, b"paths=README.md"),
        ]
        assert [a.status for a in asked] == [200, 200, 307, 400, 401, 404, 200, 200]
        left = [self.remaining(a, "api", 50) for a in asked]
        assert left == list(range(left[0], left[0] - len(asked), -1))

    def test_resolvers_bucket_counts_both_hops(self, limited):
        first = limited.get("/acme/tiny/resolve/main/config.json")
        second = limited.get(first.location)
        third = limited.head("/acme/tiny/resolve/main/model.safetensors")
        fourth = limited.get("/acme/tiny/resolve/main/absent")
        fifth = limited.get("/acme/gated/resolve/main/config.json")
        asked = [first, second, third, fourth, fifth]
        assert [a.status for a in asked] == [307, 200, 302, 404, 401]
        left = [self.remaining(a, "resolvers", 60) for a in asked]
        assert left == list(range(left[0], left[0] - len(asked), -1))

    def test_second_hop_can_be_free(self, start):
        server = start(*self.LIMITS, "behaviour.count_second_hop=false")
        first = server.get("/acme/tiny/resolve/main/config.json")
        second = server.get(first.location)
        third = server.get("/acme/tiny/resolve/main/config.json")
        assert second.status == 200
        assert self.remaining(first, "resolvers", 60) - self.remaining(third, "resolvers", 60) == 1

    def test_buckets_are_separate(self, limited):
        before = self.remaining(limited.get("/api/models?limit=1"), "api", 50)
        limited.get("/acme/tiny/resolve/main/config.json")
        assert self.remaining(limited.get("/api/models?limit=1"), "api", 50) == before - 1

    def test_unknown_route_carries_a_bucket_too(self, limited):
        answer = limited.get("/a/b/c/d/e/f")
        assert answer.status == 404
        assert "ratelimit" in answer.headers and "ratelimit-policy" in answer.headers

    def test_cdn_carries_none(self, limited):
        url = limited.signed("acme/tiny", "model.safetensors")
        for answer in [fetch("GET", url), fetch("HEAD", url), fetch("GET", url + "0")]:
            assert "ratelimit" not in answer.headers and "ratelimit-policy" not in answer.headers

    def test_default_server_sends_none_or_proper_ones(self, server):
        header = server.get("/api/models?limit=1").headers.get("ratelimit")
        assert header is None or re.fullmatch(r'"api";r=\d+;t=\d+', header)

    def test_429_and_the_next_window(self, start):
        server = start("limits.api=2", "limits.window_seconds=2")
        assert [server.get("/api/models/acme/tiny").status for _ in range(2)] == [200, 200]
        answer = server.get("/api/models/acme/tiny")
        assert answer.status == 429, answer
        assert self.remaining(answer, "api", 2, 2) == 0
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<html" in answer.body.lower()
        assert "retry-after" not in answer.headers
        wait = int(re.search(r"t=(\d+)", answer.headers["ratelimit"])[1])
        assert server.get("/acme/tiny/resolve/main/config.json").status == 307, "another bucket"
        time.sleep(wait + 0.2)
        answer = server.get("/api/models/acme/tiny")
        assert answer.status == 200 and self.remaining(answer, "api", 2, 2) == 1

    def test_edge_429_has_no_ratelimit(self, start):
        answer = start("faults.too_many=1.0").get("/api/models")
        assert answer.status == 429
        assert not {"ratelimit", "ratelimit-policy", "retry-after"} & set(answer.headers)


class TestListing:
    """11.2"""

    def test_default_item(self, server):
        items = {item["id"]: item for item in listing(server)}
        item = items["acme/tiny"]
        assert {"_id", "id", "modelId", "likes", "private", "downloads", "tags", "pipeline_tag", "library_name",
                "createdAt", "trendingScore"} <= set(item)
        assert not {"baseModels", "childrenModelCount", "siblings", "sha", "config", "safetensors", "cardData"} & set(item)
        assert re.fullmatch(r"[0-9a-f]{24}", item["_id"])
        assert item["modelId"] == item["id"]
        assert item["createdAt"] == "2024-05-01T12:00:00.000Z"

    def test_private_is_not_listed(self, server, hub_folder):
        ids = {item["id"] for item in listing(server)}
        assert ids | {"acme/disabled"} == hub_folder.ids()

    def test_ids_are_stable_and_unique(self, server, start):
        first = {i["id"]: i["_id"] for i in listing(server)}
        assert len(set(first.values())) == len(first)
        assert {i["id"]: i["_id"] for i in listing(start())} == first

    @pytest.mark.parametrize(
        ("sort", "direction", "descending"),
        [("createdAt", 1, False), ("createdAt", -1, True), ("createdAt", None, True), ("lastModified", -1, True),
         ("lastModified", 1, False), ("downloads", -1, True), ("downloads", None, True), ("likes", -1, True)],
    )
    def test_sort_and_pages(self, server, hub_folder, sort, direction, descending):
        """Order is (key, `_id` ascending); pages neither skip nor repeat, whatever the ties."""
        path = f"/api/models?sort={sort}&limit=3" + (f"&direction={direction}" if direction else "")
        found = pages(server, path)
        assert all(len(page) == 3 for page in found[:-1]) and 0 < len(found[-1]) <= 3
        items = [item for page in found for item in page]
        assert len(items) == len({item["_id"] for item in items})
        whole = listing(server, sort=sort, **({"direction": direction} if direction else {}))
        assert [i["id"] for i in items] == [i["id"] for i in whole]
        keys = [(hub_folder[i["id"]].hub[sort], i["_id"]) for i in items]
        by_id = sorted(keys, key=lambda k: k[1])
        assert keys == sorted(by_id, key=lambda k: k[0], reverse=descending)

    def test_legacy_date_is_a_real_tie(self, server):
        items = [i for i in listing(server, sort="createdAt", direction=1) if i["createdAt"] == LEGACY_DATE]
        assert len(items) == 6
        assert [i["_id"] for i in items] == sorted(i["_id"] for i in items)

    def test_default_order_covers_everything(self, server):
        items = [item["id"] for page in pages(server, "/api/models?limit=4") for item in page]
        assert sorted(items) == sorted(item["id"] for item in listing(server))

    def test_link_keeps_the_query(self, server):
        query = [("sort", "createdAt"), ("direction", "1"), ("limit", "3"), ("author", "zoo"), ("filter", "license:mit"),
                 ("expand[]", "sha"), ("expand[]", "siblings")]
        first = server.get("/api/models?" + urlencode(query))
        link = next_link(first)
        assert link.startswith(server.hub + "/api/models?")
        kept = parse_qsl(urlsplit(link).query)
        assert sorted(pair for pair in kept if pair[0] != "cursor") == sorted(query)
        assert [name for name, _ in kept].count("cursor") == 1
        second = fetch("GET", link)
        assert sorted(parse_qsl(urlsplit(second.url).query)) == sorted(kept)
        assert next_link(second) is None, "six repositories are two pages of three"
        assert all(set(i) == {"_id", "id", "sha", "siblings", "createdAt"} for i in first.json() + second.json())
        assert len({i["id"] for i in first.json() + second.json()}) == 6

    def test_page_limit_of_the_server(self, pages_of_three):
        found = pages(pages_of_three, "/api/models?sort=createdAt&direction=1&limit=1000")
        assert {len(page) for page in found[:-1]} == {3}

    def test_filters(self, server, hub_folder):
        def ids(**query):
            return {i["id"] for i in listing(server, **query)} - {"acme/disabled"}

        def expected(keep):
            return hub_folder.ids(keep) - {"acme/disabled"}

        assert ids(author="zoo") == expected(lambda r: r.id.startswith("zoo/"))
        assert ids(author="zo") == set()
        assert ids(search="model-0") == expected(lambda r: "model-0" in r.id)
        assert ids(search="enamed") == {"acme/renamed-new"}
        assert ids(filter="gguf") == expected(lambda r: "gguf" in r.hub["tags"])
        both = lambda r: {"gguf", "license:mit"} <= set(r.hub["tags"])
        assert ids(filter=["gguf", "license:mit"]) == expected(both)
        assert ids(filter="no-such-tag") == set()
        assert ids(pipeline_tag="feature-extraction") == expected(
            lambda r: r.hub.get("pipeline_tag") == "feature-extraction"
        )
        assert ids(gated="true") == {"acme/gated", "acme/gated-auto"}
        assert ids(gated="false") == expected(lambda r: not r.hub["gated"])
        assert ids(author="acme", filter=["safetensors", "license:mit"], search="wide") == {"acme/wide-header"}

    def test_full_and_config(self, server, hub_folder):
        full = {i["id"]: i for i in listing(server, full="true")}["acme/tiny"]
        assert {"author", "gated", "lastModified", "sha", "siblings"} <= set(full)
        assert not {"safetensors", "config", "baseModels", "childrenModelCount"} & set(full)
        assert full["author"] == "acme" and full["gated"] is False
        assert full["lastModified"] == hub_folder["acme/tiny"].hub["lastModified"]
        assert {s["rfilename"] for s in full["siblings"]} == set(hub_folder["acme/tiny"].files)
        assert all(set(s) == {"rfilename"} for s in full["siblings"])
        config = {i["id"]: i for i in listing(server, config="true")}["acme/tiny"]["config"]
        assert config["model_type"] == "llama" and config["architectures"] == ["LlamaForCausalLM"]
        assert "hidden_size" not in config, "the list gives a subset of config.json"

    def test_expand_is_exact_in_both_spellings(self, server, hub_folder):
        fields = ["sha", "lastModified", "gated", "disabled", "private", "siblings", "safetensors", "config", "tags"]
        plain = listing(server, expand=fields, sort="createdAt", author="acme")
        assert listing(server, **{"expand[]": fields}, sort="createdAt", author="acme") == plain
        item = {i["id"]: i for i in plain}["acme/tiny"]
        assert set(item) == {"_id", "id", "createdAt", *fields}
        assert SHA.fullmatch(item["sha"])
        parameters = hub_folder["acme/tiny"].parameters()
        assert item["safetensors"] == {"parameters": parameters, "total": sum(parameters.values())}

    def test_expand_adds_the_sort_key(self, server):
        assert all(set(i) == {"_id", "id", "sha", "trendingScore"} for i in listing(server, expand="sha"))
        assert all(set(i) == {"_id", "id", "sha", "downloads"} for i in listing(server, expand="sha", sort="downloads"))

    def test_expand_allow_list(self, server):
        names = ("author baseModels cardData config createdAt disabled downloads downloadsAllTime evalResults gated "
                 "inference inferenceProviderMapping lastModified library_name likes mask_token model-index pipeline_tag "
                 "private safetensors sha siblings spaces tags transformersInfo trendingScore widgetData gguf "
                 "resourceGroup xetEnabled").split()
        items = listing(server, expand=names)
        assert all(set(i) <= {"_id", "id", *names} for i in items)

    @pytest.mark.parametrize("name", ["nonsense", "_id", "cardData.license"])
    @pytest.mark.parametrize("key", ["expand", "expand[]"])
    def test_unknown_expand_is_400(self, server, key, name):
        answer = server.get("/api/models?" + urlencode([(key, "sha"), (key, name)]))
        assert answer.status == 400, answer
        assert answer.json()["error"].startswith('✖ Invalid option: expected one of "author"|"baseModels"|')

    def test_bad_sort_is_400(self, server):
        answer = server.get("/api/models?sort=colour")
        assert answer.status == 400 and b"Invalid sort parameter" in answer.body


class TestModel:
    """11.3"""

    def test_info(self, server, hub_folder):
        repo = hub_folder["acme/tiny"]
        info = server.get("/api/models/acme/tiny").json()
        listed = {i["id"]: i for i in listing(server, full="true")}["acme/tiny"]
        for key in ("_id", "sha", "createdAt", "lastModified", "tags", "downloads", "likes", "gated", "private"):
            assert info[key] == listed[key], key
        assert info["id"] == info["modelId"] == "acme/tiny" and info["author"] == "acme"
        assert info["disabled"] is False and SHA.fullmatch(info["sha"])
        assert {s["rfilename"] for s in info["siblings"]} == set(repo.files)
        assert info["safetensors"] == {"parameters": repo.parameters(), "total": sum(repo.parameters().values())}
        assert not {"baseModels", "childrenModelCount"} & set(info)
        assert not any(".hub.json" in s["rfilename"] for s in info["siblings"])

    def test_sharded_parameters_are_summed(self, server, hub_folder):
        parameters = hub_folder["acme/sharded"].parameters()
        info = server.get("/api/models/acme/sharded").json()
        assert info["safetensors"] == {"parameters": parameters, "total": sum(parameters.values())}

    def test_revision(self, server, head_sha):
        sha = head_sha("acme/tiny")
        for revision in ("main", sha, sha[:7]):
            answer = server.get(f"/api/models/acme/tiny/revision/{revision}")
            assert answer.status == 200 and answer.json()["sha"] == sha, answer
        assert server.head(f"/api/models/acme/tiny/revision/{sha}").status == 200

    def test_blobs(self, server, hub_folder):
        repo = hub_folder["acme/tiny"]
        for path in ("/api/models/acme/tiny?blobs=true", "/api/models/acme/tiny/revision/main?blobs=true"):
            siblings = {s["rfilename"]: s for s in server.get(path).json()["siblings"]}
            assert set(siblings) == set(repo.files)
            for file in repo.files.values():
                sibling = siblings[file.path]
                assert (sibling["size"], sibling["blobId"]) == (len(file.data), file.blob_id), file.path
                lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
                assert sibling.get("lfs") == (lfs if file.is_lfs else None)

    def test_expand_one(self, server):
        answer = server.get("/api/models/acme/tiny?expand=sha&expand[]=siblings")
        assert set(answer.json()) == {"_id", "id", "sha", "siblings"}
        assert server.get("/api/models/acme/tiny?expand=usedStorage&expand=childrenModelCount").status == 200
        assert server.get("/api/models/acme/tiny?expand=nonsense").status == 400

    @pytest.mark.parametrize("suffix", ["", "/"])
    @pytest.mark.parametrize("query", ["recursive=true&expand=false", "recursive=true", "recursive=True"])
    def test_tree_of_everything(self, server, hub_folder, suffix, query):
        repo = hub_folder["acme/tiny"]
        answer = server.get(f"/api/models/acme/tiny/tree/main{suffix}?{query}")
        assert answer.status == 200, answer
        self.check_entries(answer.json(), {f.path: f for f in repo.files.values()}, {"onnx", "onnx/sub"})

    def test_tree_of_one_level(self, server, hub_folder):
        repo = hub_folder["acme/tiny"]
        for query in ("", "?recursive=false&expand=false"):
            entries = server.get(f"/api/models/acme/tiny/tree/main{query}").json()
            self.check_entries(entries, {p: f for p, f in repo.files.items() if "/" not in p}, {"onnx"})
        for path in ("onnx", "onnx/"):
            entries = server.get(f"/api/models/acme/tiny/tree/main/{path}").json()
            self.check_entries(entries, {"onnx/notes.txt": repo["onnx/notes.txt"]}, {"onnx/sub"})
        for path in ("a/b", "a%2Fb"):  # huggingface_hub escapes the slash
            entries = server.get(f"/api/models/acme/paths/tree/main/{path}?recursive=true").json()
            expected = {p: f for p, f in hub_folder["acme/paths"].files.items() if p.startswith("a/b/")}
            self.check_entries(entries, expected, {"a/b/c"})

    @staticmethod
    def check_entries(entries, files, folders):
        assert {e["path"] for e in entries if e["type"] == "directory"} == folders
        found = {e["path"]: e for e in entries if e["type"] == "file"}
        assert set(found) == set(files)
        for path, file in files.items():
            entry = found[path]
            assert (entry["size"], entry["oid"]) == (len(file.data), file.blob_id), path
            lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
            assert entry.get("lfs") == (lfs if file.is_lfs else None)
            assert "lastCommit" not in entry and "securityFileStatus" not in entry
        for entry in entries:
            assert SHA.fullmatch(entry["oid"]), entry
            # With it, snapshot_download leaves HTTP for a Xet store that is not there (11.4.17).
            assert "xetHash" not in entry

    def test_tree_expand(self, server):
        for entry in server.get("/api/models/acme/tiny/tree/main?recursive=true&expand=true").json():
            assert set(entry["lastCommit"]) >= {"id", "title", "date"}
            if entry["type"] == "file":
                assert {"status", "avScan", "pickleImportScan"} <= set(entry["securityFileStatus"])

    def test_tree_pages(self, server):
        whole = server.get("/api/models/acme/many/tree/main?recursive=true").json()
        assert len(whole) == 122
        found = pages(server, "/api/models/acme/many/tree/main?recursive=true&limit=50")
        assert [len(page) for page in found] == [50, 50, 22]
        assert [e["path"] for page in found for e in page] == [e["path"] for e in whole]
        first = server.get("/api/models/acme/many/tree/main?recursive=true&limit=50")
        assert next_link(first).startswith(server.hub + "/api/models/acme/many/tree/main?")
        expanded = pages(server, "/api/models/acme/many/tree/main?recursive=true&expand=true")
        assert len(expanded) > 1 and sum(map(len, expanded)) == 122, "at most 100 a page with expand"

    def test_paths_info_in_every_form(self, server, hub_folder):
        repo = hub_folder["acme/tiny"]
        url = "/api/models/acme/tiny/paths-info/main"

        def ask(headers, body) -> list[dict]:
            answer = server.send("POST", url, headers, body)
            assert answer.status == 200, answer
            return answer.json()

        one, two = {"config.json"}, {"config.json", "model.safetensors"}
        asked = [
            (two, JSON, json.dumps({"paths": ["config.json", "model.safetensors", "absent"]}).encode()),
            (two, JSON, json.dumps({"paths": ["config.json", "model.safetensors"], "expand": False}).encode()),
            (one, JSON, json.dumps({"paths": "config.json"}).encode()),
            (two, FORM, b"paths=config.json&paths=model.safetensors&paths=absent&expand=false"),
            (one, FORM, b"paths=config.json"),
            (two, FORM | {"Content-Type": FORM["Content-Type"] + "; charset=utf-8"}, b"paths=config.json&paths=model.safetensors"),
            (set(), JSON, b'{"paths": ["absent"]}'),
            (set(), FORM, b"paths=absent"),
        ]
        for expected, headers, body in asked:
            self.check_entries(ask(headers, body), {p: repo[p] for p in expected}, set())
        folder = ask(FORM, b"paths=onnx")
        assert [(e["type"], e["path"]) for e in folder] == [("directory", "onnx")]
        for body, headers in [(b"paths=config.json&expand=True", FORM), (b'{"paths":["config.json"],"expand":true}', JSON)]:
            (entry,) = ask(headers, body)
            assert {"lastCommit", "securityFileStatus"} <= set(entry)

    def test_odd_names(self, server, hub_folder):
        file = hub_folder["acme/paths"][ODD_NAME]
        first = server.get("/acme/paths/resolve/main/" + quote(ODD_NAME))
        assert first.status == 307 and first.location.isascii(), first
        second = server.get(first.location)
        assert (second.status, second.body) == (200, file.data)
        (entry,) = server.send("POST", "/api/models/acme/paths/paths-info/main", JSON, json.dumps({"paths": ODD_NAME}).encode()).json()
        assert (entry["path"], entry["oid"]) == (ODD_NAME, file.blob_id)
        tree = server.get("/api/models/acme/paths/tree/main/docs").json()
        assert [e["path"] for e in tree] == [ODD_NAME]


class TestGitFiles:
    """11.4.12 and 11.4.13"""

    PATH = "config.json"

    def test_redirect(self, server, head_sha):
        sha = head_sha("acme/tiny")
        for revision in ("main", sha):
            answer = server.get(f"/acme/tiny/resolve/{revision}/{self.PATH}")
            assert answer.status == 307, answer
            assert answer.location.startswith(f"/api/resolve-cache/models/acme/tiny/{sha}/{self.PATH}?")
            assert answer.headers["x-repo-commit"] == sha
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["content-length"] == str(len(answer.body))
            assert len(answer.body) > 0, "the length of the redirect's text"
            assert "x-linked-size" not in answer.headers

    def test_whole_and_ranges(self, server, hub_folder, head_sha):
        file = hub_folder["acme/tiny"][self.PATH]
        size = len(file.data)
        url = server.get(f"/acme/tiny/resolve/main/{self.PATH}").location
        whole = server.get(url)
        assert (whole.status, whole.body) == (200, file.data)
        for answer in [whole, server.get(url, Range="bytes=2-9")]:
            assert answer.headers["etag"].removeprefix("W/") == f'"{file.blob_id}"'
            assert answer.headers["x-repo-commit"] == head_sha("acme/tiny")
        for asked, (a, b) in {"bytes=2-9": (2, 9), "bytes=5-": (5, size - 1), f"bytes=3-{size * 9}": (3, size - 1)}.items():
            answer = server.get(url, Range=asked)
            assert (answer.status, answer.body) == (206, file.data[a : b + 1]), asked
            assert answer.headers["content-range"] == f"bytes {a}-{b}/{size}"
            assert answer.headers["content-length"] == str(b - a + 1)
        beyond = server.get(url, Range=f"bytes={size}-")
        assert beyond.status == 416 and beyond.headers["content-range"] == f"bytes */{size}"

    def test_empty_file(self, server):
        url = server.get("/acme/paths/resolve/main/empty.txt").location
        answer = server.get(url)
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert server.get(url, Range="bytes=0-99").status == 416

    def test_revision_must_be_the_full_sha(self, server, head_sha):
        base = "/api/resolve-cache/models/acme/tiny"
        assert server.get(f"{base}/main/{self.PATH}").status == 400
        assert server.get(f"{base}/{'0' * 40}/{self.PATH}").status == 404
        assert server.get(f"{base}/{head_sha('acme/sharded')}/{self.PATH}").status == 404
        assert server.get(f"{base}/{head_sha('acme/tiny')}/absent.json").status == 404

    def test_without_the_query(self, server, start, hub_folder, head_sha):
        path = f"/api/resolve-cache/models/acme/tiny/{head_sha('acme/tiny')}/{self.PATH}"
        answer = server.get(path)
        assert (answer.status, answer.body) == (200, hub_folder["acme/tiny"][self.PATH].data)
        refusing = start("behaviour.bare_resolve_cache=false")
        assert 400 <= refusing.get(path).status < 500
        through = refusing.get(f"/acme/tiny/resolve/main/{self.PATH}").location
        assert refusing.get(through).status == 200

    def test_gated_on_the_second_hop(self, server, head_sha):
        path = f"/api/resolve-cache/models/acme/gated/{head_sha('acme/gated')}/{self.PATH}"
        expect_error(server.get(path), 401, "GatedRepo")
        assert server.get(path, Authorization="Bearer hf_reader").status == 200


class TestCdn:
    """11.4.14 to 11.4.17"""

    REPO, PATH = "acme/wide-header", "model.safetensors"

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, hub_folder):
        return hub_folder[cls.REPO][cls.PATH].data

    def test_redirect(self, server, hub_folder, head_sha):
        file = hub_folder[self.REPO][self.PATH]
        for method in ("GET", "HEAD"):
            answer = server.send(method, f"/{self.REPO}/resolve/main/{self.PATH}")
            assert answer.status == 302, answer
            assert answer.headers["x-repo-commit"] == head_sha(self.REPO)
            assert answer.headers["x-linked-etag"] == f'"{file.sha256}"'
            assert answer.headers["x-linked-size"] == str(len(file.data))
            assert "no-store" in answer.headers["cache-control"]
            assert answer.headers["accept-ranges"] == "bytes"
            assert int(answer.headers.get("content-length", 0)) != len(file.data)
            assert not {"x-xet-hash", "link"} & set(answer.headers), "Xet is off by default"
            expires = int(parse_qs(urlsplit(answer.location).query)["Expires"][0])
            assert abs(expires - time.time() - 3600) < 30

    def test_whole(self, server, data, hub_folder):
        answer = fetch("GET", server.signed(self.REPO, self.PATH))
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["accept-ranges"] == "bytes"
        etag = answer.headers["etag"].strip('"')
        assert re.fullmatch(r"[0-9a-f]{64}", etag)
        assert etag != hub_folder[self.REPO][self.PATH].sha256, "the Xet hash, not the sha256"

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_bare_resolve_serves_parallel_ranges(self, server, data, method):
        url = server.send(method, f"/{self.REPO}/resolve/main/{self.PATH}").location
        asked = [(i * 9000, i * 9000 + 12_345) for i in range(16)] + [(0, 0), (len(data) - 1, len(data) - 1)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda r: fetch("GET", url, {"Range": f"bytes={r[0]}-{r[1]}"}), asked))
        for (a, b), answer in zip(asked, answers, strict=True):
            assert (answer.status, answer.body) == (206, data[a : b + 1])
            assert answer.headers["content-range"] == f"bytes {a}-{b}/{len(data)}"
            assert answer.headers["content-length"] == str(b - a + 1)

    def test_range_edges(self, server, data):
        url, size = server.signed(self.REPO, self.PATH), len(data)
        answer = fetch("GET", url, {"Range": f"bytes={size - 10}-{size + 10}"})
        assert (answer.status, answer.body) == (206, data[-10:])
        answer = fetch("GET", url, {"Range": "bytes=7-"})
        assert (answer.status, answer.body) == (206, data[7:])
        answer = fetch("GET", url, {"Range": f"bytes={size}-{size + 5}"})
        assert answer.status == 416 and answer.headers["content-range"] == f"bytes */{size}"

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_ranged_resolve_pins_the_url(self, server, data, method):
        answer = server.send(method, f"/{self.REPO}/resolve/main/{self.PATH}", {"Range": "bytes=0-15"})
        assert answer.status == 302, answer
        url = answer.location
        same = fetch("GET", url, {"Range": "bytes=0-15"})
        assert (same.status, same.body) == (206, data[:16])
        for headers in ({"Range": "bytes=0-16"}, {"Range": "bytes=0-14"}, {"Range": "bytes=16-31"}, {}):
            other = fetch("GET", url, headers)
            assert other.status == 403, other
            assert b"Auth failed: invalid range" in other.body

    def test_pinning_can_be_off(self, start, data):
        url = start("behaviour.pin_ranges=false").signed(self.REPO, self.PATH, Range="bytes=0-15")
        answer = fetch("GET", url, {"Range": "bytes=100-199"})
        assert (answer.status, answer.body) == (206, data[100:200])
        assert fetch("GET", url).status == 200

    def test_authorization_is_refused(self, server):
        url = server.signed(self.REPO, self.PATH)
        answer = fetch("GET", url, {"Authorization": "Bearer hf_reader"})
        assert answer.status in (400, 401), answer
        assert fetch("GET", url).status == 200

    def test_changed_query_is_refused(self, server):
        url = server.signed(self.REPO, self.PATH)
        base, query = url.split("?")
        parameters = query.split("&")
        changed = {
            "signature": re.sub(r"(Signature=)(.)", lambda m: m[1] + ("A" if m[2] != "A" else "B"), url),
            "later": re.sub(r"Expires=(\d+)", lambda m: f"Expires={int(m[1]) + 1}", url),
            "no query": base,
            "one more": url + "&x=1",
            "one less": base + "?" + "&".join(parameters[1:]),
            "other order": base + "?" + "&".join(reversed(parameters)),
        }
        for what, other in changed.items():
            assert other != url
            assert fetch("GET", other).status == 403, what

    def test_signature_is_for_one_file(self, server):
        """The signature of one file does not open another."""
        mine = urlsplit(server.signed(self.REPO, self.PATH))
        other = urlsplit(server.signed("acme/tiny", self.PATH))
        assert mine.path != other.path
        assert fetch("GET", f"{server.cdn}{other.path}?{mine.query}").status == 403

    def test_expiry(self, start, data):
        server = start("url_ttl_seconds=2")
        url = server.signed(self.REPO, self.PATH)
        expires = int(parse_qs(urlsplit(url).query)["Expires"][0])
        assert fetch("GET", url, {"Range": "bytes=0-9"}).status == 206
        time.sleep(max(0.0, expires - time.time()) + 1.1)
        assert fetch("GET", url, {"Range": "bytes=0-9"}).status == 403
        again = fetch("GET", server.signed(self.REPO, self.PATH), {"Range": "bytes=0-9"})
        assert (again.status, again.body) == (206, data[:10]), "a new resolve helps"

    def test_suffix_range(self, server, start, data):
        answer = fetch("GET", server.signed(self.REPO, self.PATH), {"Range": "bytes=-20"})
        assert (answer.status, answer.body) == (206, data[-20:])
        answer = fetch("GET", start("behaviour.suffix_range=false").signed(self.REPO, self.PATH), {"Range": "bytes=-20"})
        assert answer.status != 206
        assert answer.status != 200 or answer.body == data

    def test_multi_range(self, server, start, data):
        asked = {"Range": "bytes=0-9,100-109"}
        answer = fetch("GET", server.signed(self.REPO, self.PATH), asked)
        assert (answer.status, answer.body) == (200, data), "by default the whole file"
        answer = fetch("GET", start("behaviour.multi_range=multipart").signed(self.REPO, self.PATH), asked)
        assert answer.status == 206
        boundary = re.search(r'multipart/byteranges; ?boundary="?([^";]+)', answer.headers["content-type"])[1]
        parts = answer.body.split(b"--" + boundary.encode())[1:-1]
        found = {}
        for part in parts:
            head, body = part.split(b"\r\n\r\n", 1)
            found[re.search(rb"(?i)content-range: ([^\r\n]+)", head)[1].decode()] = body.removesuffix(b"\r\n")
        size = len(data)
        assert found == {f"bytes 0-9/{size}": data[:10], f"bytes 100-109/{size}": data[100:110]}

    def test_xet_can_be_announced(self, start, hub_folder):
        """The switch sends what the live Hub sends, so that a crawler sees it; there is no store behind."""
        server = start("behaviour.xet=true")
        answer = server.head(f"/{self.REPO}/resolve/main/{self.PATH}")
        xet_hash = answer.headers["x-xet-hash"]
        assert re.fullmatch(r"[0-9a-f]{64}", xet_hash)
        assert re.search(rf'<{server.hub}/api/models/{self.REPO}/xet-read-token/[0-9a-f]{{40}}>; rel="xet-auth"', answer.headers["link"])
        assert fetch("HEAD", answer.location).headers["etag"] == f'"{xet_hash}"'
        tree = {e["path"]: e for e in server.get(f"/api/models/{self.REPO}/tree/main").json()}
        assert tree[self.PATH]["xetHash"] == xet_hash and "xetHash" not in tree["config.json"]

    def test_ignored_range(self, start, data):
        server = start("faults.ignore_range=1.0")
        answer = fetch("GET", server.signed(self.REPO, self.PATH), {"Range": "bytes=0-9"})
        assert (answer.status, answer.body) == (200, data)
        assert "content-range" not in answer.headers


class TestErrors:
    """11.5.18 and 11.5.19"""

    MISSING = [
        ("GET", "/api/models/acme/absent"),
        ("GET", "/api/models/nobody/absent/revision/main"),
        ("GET", "/api/models/acme/absent/tree/main"),
        ("POST", "/api/models/acme/absent/paths-info/main"),
        ("GET", "/acme/absent/resolve/main/config.json"),
        ("GET", "/api/models/acme/private"),
        ("GET", "/acme/private/resolve/main/config.json"),
    ]

    @pytest.mark.parametrize(("method", "path"), MISSING)
    def test_missing_is_a_bare_401(self, server, method, path):
        answer = server.send(method, path, FORM if method == "POST" else None, b"paths=x" if method == "POST" else None)
        expect_error(answer, 401, None)
        if path.startswith("/api/"):
            assert answer.json() == {"error": "Invalid username or password."}

    @pytest.mark.parametrize("path", ["/api/models/acme/absent", "/acme/absent/resolve/main/config.json"])
    def test_missing_with_a_token_is_404(self, server, path):
        expect_error(server.get(path, Authorization="Bearer hf_nobody"), 404, "RepoNotFound")

    def test_switch_names_the_missing(self, start):
        named = start("behaviour.error_code_on_missing=true")
        expect_error(named.get("/api/models/acme/absent"), 401, "RepoNotFound")
        expect_error(named.get("/acme/absent/resolve/main/x"), 401, "RepoNotFound")

    @pytest.mark.parametrize("repo", ["acme/gated", "acme/gated-auto"])
    def test_gated(self, server, repo):
        kind = server.get(f"/api/models/{repo}").json()["gated"]
        assert kind == ("auto" if repo.endswith("auto") else "manual")
        assert server.get(f"/api/models/{repo}/tree/main").status == 200
        for path in (f"/{repo}/resolve/main/config.json", f"/{repo}/resolve/main/model.safetensors"):
            for headers in ({}, {"Authorization": "Bearer hf_garbage"}):
                answer = server.get(path, **headers)
                expect_error(answer, 401, "GatedRepo")
                assert answer.headers["x-error-message"].startswith(f"Access to model {repo} is restricted.")
                assert answer.headers["www-authenticate"] == 'Bearer realm="Authentication required", charset="UTF-8"'
                assert answer.headers["content-type"].startswith("text/plain")
                assert answer.headers["x-error-message"] in answer.body.decode()
            answer = server.get(path, Authorization="Bearer hf_nobody")
            expect_error(answer, 403, "GatedRepo")
            assert "not in the authorized list" in answer.headers["x-error-message"]
            assert server.get(path, Authorization="Bearer hf_reader").status in (302, 307)

    def test_a_token_for_one_repository(self, server):
        headers = {"Authorization": "Bearer hf_tiny"}
        assert server.get("/acme/gated/resolve/main/config.json", **headers).status == 307
        expect_error(server.get("/acme/gated-auto/resolve/main/config.json", **headers), 403, "GatedRepo")

    def test_unknown_revision(self, server):
        for path in ("/api/models/acme/tiny/revision/absent", "/api/models/acme/tiny/revision/refs%2Fpr%2F1",
                     f"/api/models/acme/tiny/revision/{'0' * 40}", "/api/models/acme/tiny/tree/absent",
                     "/acme/tiny/resolve/absent/config.json", "/acme/tiny/resolve/refs%2Fpr%2F1/model.safetensors"):
            expect_error(server.get(path), 404, "RevisionNotFound")
        answer = server.send("POST", "/api/models/acme/tiny/paths-info/absent", FORM, b"paths=config.json")
        expect_error(answer, 404, "RevisionNotFound")

    def test_unknown_file(self, server, head_sha):
        for path in ("absent.json", "absent.safetensors", "onnx/absent", "config.json/deeper"):
            answer = server.get(f"/acme/tiny/resolve/main/{path}")
            expect_error(answer, 404, "EntryNotFound")
            assert answer.headers["x-error-message"] == "Entry not found"
            assert answer.body == b"Entry not found"
            assert answer.headers["x-repo-commit"] == head_sha("acme/tiny")

    @pytest.mark.parametrize("path", [".hub.json", "../tiny/config.json", "..%2Ftiny%2Fconfig.json", "%2E%2E/%2E%2E/hub.json",
                                      "/etc/passwd", "%2Fetc%2Fpasswd", "config.json%00"])
    def test_nothing_outside_the_repository(self, server, path):
        assert server.get(f"/acme/tiny/resolve/main/{path}").status in (400, 404)

    def test_unknown_folder(self, server):
        expect_error(server.get("/api/models/acme/tiny/tree/main/absent"), 404, "EntryNotFound")

    def test_disabled(self, server):
        info = server.get("/api/models/acme/disabled")
        assert info.status == 200 and info.json()["disabled"] is True
        for file in ("config.json", "model.safetensors"):
            answer = server.get(f"/acme/disabled/resolve/main/{file}")
            assert answer.status == 403, answer
            assert answer.headers["x-error-message"] == "Access to this resource is disabled."
            assert "x-error-code" not in answer.headers
        expect_error(server.get("/api/models/acme/disabled/commits/main"), 401, "GatedRepo")

    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("/api/models/acme/renamed-old?blobs=true", "/api/models/acme/renamed-new?blobs=true"),
            ("/api/models/acme/renamed-old/revision/main", "/api/models/acme/renamed-new/revision/main"),
            ("/api/models/acme/renamed-old/tree/main?recursive=true", "/api/models/acme/renamed-new/tree/main?recursive=true"),
            ("/acme/renamed-old/resolve/main/config.json?download=true", "/acme/renamed-new/resolve/main/config.json?download=true"),
            ("/acme/renamed-old/resolve/main/model.safetensors", "/acme/renamed-new/resolve/main/model.safetensors"),
            ("/api/models/ACME/Tiny", "/api/models/acme/tiny"),
            ("/Acme/TINY/resolve/main/config.json", "/acme/tiny/resolve/main/config.json"),
            ("/api/models/legacy-tiny", "/api/models/acme/tiny"),
            ("/legacy-tiny/resolve/main/config.json", "/acme/tiny/resolve/main/config.json"),
        ],
    )
    def test_renamed(self, server, path, target):
        answer = server.get(path)
        assert answer.status == 307, answer
        assert unquote(answer.location) == target, "relative, with the query kept"
        assert server.get(answer.location).status in (200, 302, 307)

    def test_renamed_post(self, server):
        answer = server.send("POST", "/api/models/acme/renamed-old/paths-info/main", FORM, b"paths=config.json")
        assert answer.status == 307
        assert answer.location == "/api/models/acme/renamed-new/paths-info/main"


class TestFaults:
    """11.5.20"""

    def test_5xx(self, start):
        server = start("faults.error_5xx=1.0")
        found = {server.get(p).status for p in ["/api/models", "/acme/tiny/resolve/main/config.json"] * 10}
        assert found <= {500, 502, 503, 504} and len(found) > 1

    def test_faults_follow_the_seed(self, start):
        def run(seed: int) -> list[int]:
            server = start("faults.error_5xx=0.5", f"faults.seed={seed}")
            return [server.get("/api/models/acme/tiny").status for _ in range(24)]

        first = run(1)
        assert run(1) == first and {200} < set(first)
        assert run(2) != first

    def test_truncated_bodies(self, start, hub_folder):
        data = hub_folder["acme/wide-header"]["model.safetensors"].data
        server = start("faults.truncate=1.0")
        for headers, whole in [({}, data), ({"Range": "bytes=10-5009"}, data[10:5010])]:
            answer = fetch("GET", server.signed("acme/wide-header", "model.safetensors"), headers)
            assert answer.status in (200, 206) and answer.cut, answer.status
            assert answer.headers["content-length"] == str(len(whole))
            assert len(answer.body) < len(whole) and whole.startswith(answer.body)

    def test_expired_at_once(self, start):
        server = start("faults.expire=1.0")
        assert fetch("GET", server.signed("acme/tiny", "model.safetensors")).status == 403

    def test_heavy_pages_are_504(self, start):
        server = start("faults.heavy_page=5")
        assert server.get("/api/models?limit=10&expand=sha").status == 504
        assert server.get("/api/models?limit=5&expand=sha").status == 200
        assert server.get("/api/models?limit=10").status == 200

    def test_latency(self, start):
        server = start("line.latency_ms=300")
        before = time.monotonic()
        assert server.get("/api/models/acme/tiny").status == 200
        assert time.monotonic() - before >= 0.3
