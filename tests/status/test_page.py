"""The page's file, and what a browser may do with it."""

import base64
import hashlib
import re

from wsgate.status.page import load_page, make_policy


def test_the_policy_has_the_hashes_of_script_and_style() -> None:
    policy = make_policy(b"<style>a</style><script>b</script>").decode()
    for text, source in (("a", "style-src"), ("b", "script-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_page_has_all_in_one_script_and_one_style() -> None:
    page = load_page()
    html = page.html.decode()
    assert len(re.findall(r"<script\b", html)) == len(re.findall(r"<script>", html)) == 1
    assert len(re.findall(r"<style\b", html)) == len(re.findall(r"<style>", html)) == 1
    assert not re.findall(r"\son\w+=", html)
    assert page.policy.count(b"sha256-") == 2
