"""Secrets in settings become the names of variables, and come back only where they are used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.security import secrets

WORDS = st.text("abcdefghij0123456789%-._~", min_size=4, max_size=12)
NAME = "PIPELINE_SECRET_DATA_FILE_URL"


@pytest.mark.parametrize(
    "key",
    ["password", "api_key", "apikey", "access-key", "accessKey", "sig", "auth_token", "api_keys",
     "pwd", "auth", "Authorization", "passphrase", "sas", "subscription-key", "passwd", "pass",
     "db_pass", "tokens", "refreshTokens", "secrets", "credentials", "private_key", "privatekey",
     "APIKey", "DBPassword", "AWS_SECRET_ACCESS_KEY", "connectionString", "ssh-key",
     "sslpassword", "clientsecret"],
)  # fmt: skip
def test_keys_of_secrets(key):
    assert secrets.is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "signal", "key", "keys", "design", "secretary", "code", "n_tokens", "high_pass",
     "first_pass", "passthrough", "compass", "author", "storage_key"],
)  # fmt: skip
def test_other_keys(key):
    assert not secrets.is_secret(key)


@pytest.mark.parametrize(
    ("address", "kept", "moved"),
    [
        ("https://h/x?sig=abc&id=3", "https://h/x?id=3&${oc.env:%s}", "sig=abc"),
        ("https://h/x?sv=1&se=2&sig=abc", "https://h/x?${oc.env:%s}", "sv=1&se=2&sig=abc"),
        ("https://h/x?X-Amz-Signature=k&v=7#top", "https://h/x?v=7&${oc.env:%s}#top",
         "X-Amz-Signature=k"),
        ("https://h/x?api_key=k", "https://h/x?${oc.env:%s}", "api_key=k"),
        (" https://u:P@h/x", " https://${oc.env:%s}@h/x", "u:P"),
        ("http:///u:P@h", "http:///${oc.env:%s}@h", "u:P"),
        ("git+http://u:P@h/x?a=1", "git+http://${oc.env:%s}@h/x?a=1", "u:P"),
        ("http:/u:P@h/x", "http:/${oc.env:%s}@h/x", "u:P"),
        ("http:\\\\u:P@h/x", "http:\\\\${oc.env:%s}@h/x", "u:P"),
        ("//u:P@h/x", "//${oc.env:%s}@h/x", "u:P"),
        ("https://u:P/Q#R?S@h/x", "https://${oc.env:%s}@h/x", "u:P/Q#R?S"),
        ("'https://u:P,Q R@h/x'", "'https://${oc.env:%s}@h/x'", "u:P,Q R"),
        ("https://u:P,Q@h/x", "https://${oc.env:%s}@h/x", "u:P,Q"),
        ("https://h/x?id=3&sig=a,b]c'd e", "https://h/x?id=3&${oc.env:%s}", "sig=a,b]c'd e"),
        ("https://h/x?id=3;token=k;v=7", "https://h/x?id=3;v=7;${oc.env:%s}", "token=k"),
        ("https://h/token.csv;token=k", "https://h/token.csv;${oc.env:%s}", "token=k"),
        ("https://h/x#access_token=k&v=7", "https://h/x#v=7&${oc.env:%s}", "access_token=k"),
        ("{a: b, token: [k, 'l']}", "{a: b, token: ${oc.env:%s}}", "[k, 'l']"),
        ("{token: {value: k}, b: c}", "{token: ${oc.env:%s}, b: c}", "{value: k}"),
        ("postgresql://h/d?sslpassword=k&table=t", "postgresql://h/d?table=t&${oc.env:%s}",
         "sslpassword=k"),
        ("https://h/x?token=${oc.env:T,k}", "https://h/x?${oc.env:%s}", "token=${oc.env:T,k}"),
        ("{api_key: '${oc.env:T,k}'}", "{api_key: '${oc.env:%s}'}", "${oc.env:T,k}"),
        ("u:P@h/x", "${oc.env:%s}@h/x", "u:P"),
        ("https:u:P@h/x", "${oc.env:%s}@h/x", "https:u:P"),
        (" 'u:P/Q?R#S,T @h'", " '${oc.env:%s}@h'", "u:P/Q?R#S,T "),
        ("a:P@h,b:Q@i", "${oc.env:%s}@i", "a:P@h,b:Q"),
        ("h/x.csv?id=3&sig=k", "h/x.csv?id=3&${oc.env:%s}", "sig=k"),
        ("{a: 1, api_key: 'k', b: 2}", "{a: 1, api_key: '${oc.env:%s}', b: 2}", "k"),
        ('{"a": {"token": "k"}}', '{"a": {"token": "${oc.env:%s}"}}', "k"),
    ],
)  # fmt: skip
def test_what_says_who_may_read_is_moved(address, kept, moved):
    assert secrets.protect("data.file_url", address) == (kept % NAME, {NAME: moved})


@pytest.mark.parametrize(
    "text",
    [
        "https://h/x?id=3&se=2",  # without a signature these say what is read
        "https://h/x?sig=${oc.env:SIG}",
        "wasbs://container@account.blob.core.windows.net/folder",
        "file:///home/a@b/data.csv",
        "an e-mail to a@b.org",
        "https://h:80/a@b.csv",
        "http://[::1]:80/a@b.csv",
        "https://h/token;v=1?table=a@b",
        "postgresql://h:1,i:2/d?table=a@b",
        "{a: b, words: ['c'], max_tokens: [1]}",
        "${oc.env:FOLDER}/a@b.csv",
        "/home/12:30@a.csv",
        "./12:30@a.csv",
        "git@host:folder/a",
        "h:80/a@b.csv",
        "",
    ],
)
def test_all_else_stays(text):
    assert secrets.protect("data.file_url", text) == (text, {})


def test_a_secret_as_a_whole_is_moved():
    kept, moved = secrets.protect("fetch.api_key", "abc")
    assert kept == "${oc.env:PIPELINE_SECRET_FETCH_API_KEY}"
    assert moved == {"PIPELINE_SECRET_FETCH_API_KEY": "abc"}
    assert secrets.protect("fetch.api_key", "${oc.env:T}") == ("${oc.env:T}", {})
    assert secrets.protect("fetch.api_key", "${oc.env:T,abc}")[1]  # a default is no name
    for key in ("fetch.token.0", "fetch.credentials.user"):
        assert secrets.protect(key, "abc")[1]
    assert secrets.protect("token.kind", "abc") == ("abc", {})  # a section of that name


def test_only_settings_of_addresses_have_logins_without_slashes():
    assert secrets.protect("fetch.note", "at 12:30 @ home") == ("at 12:30 @ home", {})
    assert secrets.protect("fetch.base_urls.0", "u:P@h")[1] == {
        "PIPELINE_SECRET_FETCH_BASE_URLS_0": "u:P"
    }


def test_a_file_that_is_there_is_no_login(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "12:30@a.csv").touch()
    assert secrets.protect("data.file_url", "12:30@a.csv") == ("12:30@a.csv", {})


def test_a_login_is_left_out_with_slashes_or_without():
    assert secrets.without_login("http://u:P@h/x") == "http://h/x"
    assert secrets.without_login("u:P@h/x") == secrets.without_login("https:u:P@h/x") == "h/x"
    assert secrets.without_login("git@github.com:o/r") == "git@github.com:o/r"


def test_a_container_of_azures_is_no_login():
    assert not secrets.has_login("abfss://container@account.dfs.core.windows.net/x.csv")
    assert secrets.has_login(" http:/u:P@h")
    assert secrets.has_login(secrets.protect("data.file_url", "u:P@h")[0])


def test_a_password_beside_a_name_may_come_from_a_variable(monkeypatch):
    monkeypatch.setenv("PASSWORD", "of-the-day")
    kept, moved = secrets.protect("data.file_url", "postgresql://me:${oc.env:PASSWORD}@h/d?table=t")
    monkeypatch.setenv(NAME, moved[NAME])
    found = secrets.resolve(kept)
    assert found == "postgresql://me:of-the-day@h/d?table=t"
    assert secrets.hide(found) == kept


def test_each_address_of_a_text_has_a_variable_of_its_own():
    kept, moved = secrets.protect("data.file_url", "https://a/x?sig=one,https://b/x?sig=two")
    assert moved == {NAME: "sig=one", f"{NAME}_2": "sig=two"}
    assert kept == f"https://a/x?${{oc.env:{NAME}}},https://b/x?${{oc.env:{NAME}_2}}"
    assert secrets.protect("data.file_url", "https://a/x?sig=one,/b.csv")[1] == {NAME: "sig=one"}


@given(st.lists(WORDS, max_size=3), WORDS, st.lists(WORDS, max_size=3))
def test_the_address_comes_back_with_all_its_parts(before, secret, after):
    query = [f"a{n}={v}" for n, v in enumerate(before)] + [f"sig={secret}"]
    query += [f"b{n}={v}" for n, v in enumerate(after)]
    kept, moved = secrets.protect("data.file_url", f"https://host/x?{'&'.join(query)}")
    assert f"sig={secret}" not in kept
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moved.items():
            patch.setenv(name, value)
        found = secrets.resolve(kept)
        assert sorted(found.partition("?")[2].split("&")) == sorted(query)
        assert secrets.hide(found) == kept
        assert f"sig={secret}" not in secrets.for_display(f"can't open {found!r}")


def test_what_decides_is_told_and_a_signature_is_not(monkeypatch):
    monkeypatch.setenv("WHICH", "seven")
    monkeypatch.setenv("SIGNATURE", "signed")
    told = []
    address = "https://host/x?id=${oc.env:WHICH}&sig=${oc.env:SIGNATURE}"
    assert secrets.resolve([address], told.append) == ["https://host/x?id=seven&sig=signed"]
    assert told == ["WHICH"]


def test_a_setting_that_is_moved_as_a_whole_decides(monkeypatch):
    """Or ``token_pattern`` of a user's step could change and nothing would run again."""
    kept, moved = secrets.protect("words.token_pattern", "[a-z]+")
    told = []
    for name, value in moved.items():
        monkeypatch.setenv(name, value)
    assert secrets.resolve({"pattern": kept}, told.append) == {"pattern": "[a-z]+"}
    assert told == [*moved]


@pytest.mark.parametrize(("value", "asked"), [("zzz", "zzz"), ("z z", "z%20z"), ("zé", "z%C3%A9")])
def test_a_short_secret_is_hidden_in_an_http_librarys_words(monkeypatch, value, asked):
    monkeypatch.setenv("SHORT", value)
    secrets.resolve("https://host/x.csv?token=${oc.env:SHORT}")
    told = f"Max retries exceeded with url: /x.csv?token={asked} (refused)"
    assert secrets.hide(told) == told.replace(asked, "${oc.env:SHORT}")


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(PipelineError, match="NOT_SET"):
        secrets.resolve("${oc.env:NOT_SET}")
    assert secrets.resolve("${oc.env:NOT_SET,some}") == "some"


@pytest.mark.parametrize(
    "text", ["' http://u:{0}@h/x'", '" http://u:{0}@h/x "', " http://u:{0}@h/x "]
)
def test_space_beside_an_address_hides_nothing(text: str):
    protected, moved = secrets.protect("data.file_url", text.format("hidden"))
    (name,) = moved
    assert protected == text.format("").replace("u:", secrets.reference(name))
