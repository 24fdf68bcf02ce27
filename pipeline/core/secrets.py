"""Secrets in settings: handed on and recorded as the names of the variables that hold them.

A setting that comes from the environment reaches a step as its reference, ``${oc.env:NAME}``, and
is resolved there. A secret that stands in a setting itself, such as the signature of an address,
is first moved into a variable of its own (:func:`protect`). So what is logged, shown or stored
holds no secret, and a new signature is no new setting.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from pipeline.core import variables
from pipeline.core.errors import PipelineError

PREFIX = "PIPELINE_SECRET_"  # of the variables that secrets are moved into
REFERENCE = re.compile(r"\$\{oc\.env:([A-Za-z_]\w*)(?:,([^${}]*))?\}")
BEGIN = r"(?:(?<![\w+.-])[A-Za-z][\w+.-]*:[/\\]+|(?<![^\s,'\"=\[])//)"  # also where it is mistyped
ADDRESS = re.compile(rf"{BEGIN}(?:\$\{{[^}}]*\}}|,(?!\s|$|[/~.]|{BEGIN})|[^\s,'\"\]}}])+")
ALONE = re.compile(
    rf"\s*(?P<quote>['\"]?)\s*"
    rf"(?P<address>{BEGIN}(?!.*(?:[,\s]['\"]?{BEGIN}|,['\"]?[/~.])).*?)\s*(?P=quote)",
    re.DOTALL,
)
# What is before an @; it names a folder in some of Azure's addresses, and is a name in a path. A
# password may have a slash in it, unless it is a port and a path.
LOGIN = re.compile(
    rf"((?!wasbs?:|abfss?:|file:){BEGIN})"
    r"([^/?#\\]*|(?!\[)[^/?#:@\\]*:(?!\d*[,/?#])[^@]*)@",
    re.IGNORECASE,
)
# The same without slashes, as in https:u:P@host or u:P@host, unless it is a path or a host's port
BARE_LOGIN = re.compile(
    rf"(\s*+['\"]?+\s*+)(?!{BEGIN}|file:|[/~.\[{{]|[^/?#:@]*:\d*[,/?#])"
    r"((?:\$\{[^}]*\}|[^@:$]|\$(?!\{))*:.*)@",
    re.IGNORECASE | re.DOTALL,
)
ENTRY = re.compile(
    r"""(['"]?)([\w.-]+)\1\s*:\s*(?:"([^"]*)"|'([^']*)'|([^\s,{}\[\]'"$][^,}\]]*)"""
    r"""|(\[[^\[\]]*\]|\{[^{}]*\}))"""
)
MOVED = re.compile(rf"[?&;#]?\$\{{oc\.env:{PREFIX}\w+\}}@?")
MOVED_LOGIN = re.compile(rf"\s*['\"]?\s*\$\{{oc\.env:{PREFIX}\w+\}}@")
# Words of a key by which it is a secret's. "key", "code" and "cookie" alone are ordinary names.
WORDS = {
    "auth", "authorization", "bearer", "credential", "credentials", "jwt", "passcode",
    "passphrase", "passwd", "password", "passwords", "pwd", "sas", "secret", "secrets", "sig",
    "signature", "token",
}  # fmt: skip
ALONE_WORDS = {"pass", "tokens"}  # not in max_tokens, n_tokens, first_pass or high_pass
PAIRS = {
    *((kind, key) for key in ("key", "keys") for kind in (
        "access", "account", "api", "deploy", "encryption", "functions", "private", "shared",
        "signing", "ssh", "subscription")),
    *((kind, "tokens") for kind in ("access", "api", "auth", "bearer", "refresh", "session")),
    *((kind, "pass") for kind in ("database", "db", "ftp", "login", "mail", "proxy", "smtp",
                                  "user")),
    ("connection", "string"), ("connection", "strings"), ("conn", "str"),
}  # fmt: skip
JOINED = WORDS | {first + second for first, second in PAIRS}
ENDS = ("passwd", "password", "secret")  # of words such as sslpassword
# Words of a key by which its value is an address
OF_ADDRESSES = {
    "address", "addresses", "dsn", "endpoint", "endpoints", "proxy", "root", "server", "servers",
    "storage", "store", "uri", "uris", "url", "urls",
}  # fmt: skip
# What comes with a signature and is made anew with it: of Azure, Amazon and Google
SIGNED = {
    "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip", "sdd", "skoid", "sktid", "skt", "ske",
    "sks", "skv", "saoid", "suoid", "scid", "ses", "expires", "awsaccesskeyid", "googleaccessid",
    "policy", "key-pair-id",
}  # fmt: skip
SIGNERS = ("x-amz-", "x-goog-")
UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # what requests leaves as it is in an address
SHORTEST = 4  # characters of a value that is looked for in other texts

_resolved: dict[str, str] = {}  # texts that this process has resolved, and their references


def reference(name: str) -> str:
    """What stands for an environment variable in a setting."""
    return f"${{oc.env:{name}}}"


def is_secret(key: str) -> bool:
    """Whether a key looks like that of a secret: by whole words, such as ``api_key``."""
    words = _words(key)
    return (
        not JOINED.isdisjoint(words)
        or not PAIRS.isdisjoint(itertools.pairwise(words))
        or any(word.endswith(ENDS) for word in words)
        or (len(words) == 1 and words[0] in ALONE_WORDS)
    )


def _is_named(text: str) -> bool:
    """Whether a text is a reference alone, without a default, which may be a secret."""
    found = REFERENCE.fullmatch(text)
    return bool(found and not found[2])


def is_address(key: str) -> bool:
    """Whether a key looks like that of an address or of several."""
    return any(not OF_ADDRESSES.isdisjoint(_words(part)) for part in _parts(key))


def _parts(key: str) -> list[str]:
    """What is below a key's section; also of a list or a mapping there."""
    return key.split(".")[1:] or [key]


def _words(key: str) -> list[str]:
    """The words of a key: ``api_key``, ``apiKey`` and ``APIKey`` have the same two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", key)]


def protect(key: str, text: str) -> tuple[str, dict[str, str]]:
    """A setting with references in place of its secrets.

    Args:
        key: the setting's name, after which the variables are named.
        text: its value: one that is secret as a whole, or any text with addresses in it.

    Returns:
        The value, and the variables that the secrets are to be put into.
    """
    moved: dict[str, str] = {}

    def move(secret: str) -> str:
        name = PREFIX + re.sub(r"\W", "_", key).upper()
        name += f"_{len(moved) + 1}" if moved else ""
        moved[name] = secret
        return reference(name)

    if not text or _is_named(text):
        return text, moved
    if any(map(is_secret, _parts(key))):
        return move(text), moved
    if alone := ALONE.fullmatch(text):
        start, end = alone.span("address")
        return f"{text[:start]}{_protect_address(alone['address'], move)}{text[end:]}", moved
    if is_address(key) and not text.startswith(("{", "[")) and not _is_file(text):
        if bare := BARE_LOGIN.match(text):
            text = f"{bare[1]}{move(bare[2])}@{text[bare.end() :]}"
        if not re.search(BEGIN, text):
            return _protect_address(text, move), moved
    if text.startswith(("{", "[")):
        text = ENTRY.sub(lambda found: _protect_entry(found, move), text)
    return ADDRESS.sub(lambda found: _protect_address(found[0], move), text), moved


def _is_file(text: str) -> bool:
    return os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111 - any text may come here


def _protect_entry(entry: re.Match[str], move: Callable[[str], str]) -> str:
    """An entry of a mapping that is written as text, such as ``{api_key: abc}``."""
    value = next((group for group in entry.groups()[2:] if group), "")
    start, _, end = entry[0].rpartition(value)
    if not is_secret(entry[2]) and value == entry[6]:  # a list or a mapping
        return f"{start}{ENTRY.sub(lambda found: _protect_entry(found, move), value)}{end}"
    if not value or not is_secret(entry[2]) or _is_named(value):
        return entry[0]
    return f"{start}{move(value)}{end}"


def _protect_address(text: str, move: Callable[[str], str]) -> str:
    login = LOGIN.match(text)
    if login and login[2] and not _is_named(login[2]):
        text = f"{login[1]}{move(login[2])}@{text[login.end() :]}"
    address, mark, fragment = text.partition("#")
    address, question, query = address.partition("?")
    place, slash, name = address.rpartition("/")
    name, semicolon, parameters = name.partition(";")
    parts = [_protect_query(part, move) for part in (parameters, query, fragment)]
    return f"{place}{slash}{name}{semicolon}{parts[0]}{question}{parts[1]}{mark}{parts[2]}"


def _protect_query(query: str, move: Callable[[str], str]) -> str:
    """A query, or what is like one, with its credentials moved to its end."""
    pieces = re.split(r"([&;])", query)
    parts, marks = pieces[::2], ["", *pieces[1::2]]
    signed = [is_credential(part, parts) and not _names_all(part) for part in parts]
    if not any(signed):
        return query
    told = list(zip(marks, parts, signed, strict=True))
    mark = next((one for one, _, is_signed in told if is_signed and one), "&")
    kept = "".join(f"{one}{part}" for one, part, is_signed in told if not is_signed)
    moved = move(mark.join(part for _, part, is_signed in told if is_signed))
    kept = kept[1:] if signed[0] else kept  # without its mark
    return f"{kept}{mark}{moved}" if kept else moved


def _names_all(part: str) -> bool:
    """Whether a part of a query has references in it, and no default that may be a secret."""
    found = REFERENCE.findall(part)
    return bool(found) and not any(default for _, default in found)


def is_credential(part: str, query: list[str]) -> bool:
    """Whether a part of a query, as ``name=value``, says who may read, not what is read."""
    name = unquote(part.partition("=")[0])
    names = {one.partition("=")[0].lower() for one in query}
    signed = not names.isdisjoint(("sig", "signature"))
    return (
        is_secret(name) or name.lower().startswith(SIGNERS) or (signed and name.lower() in SIGNED)
    )


def resolve(value: Any, told: Callable[[str], None] = lambda _: None) -> Any:
    """A value with its references resolved, also within lists and mappings.

    Args:
        value: the value.
        told: is given the names of the variables that decide what the value means: not of those
            that only say who may read an address.

    Raises:
        PipelineError: a variable is not set.
    """

    def resolved(text: str) -> str:
        if not REFERENCE.search(text):
            return text
        for name in _deciding(text):
            told(name)
        found = REFERENCE.sub(_value, text)
        _resolved[found] = text
        if ADDRESS.match(found):  # an HTTP library's errors name it without its host, quoted
            path = _path(text) if "://" in text else text
            asked = _path(found)
            _resolved.update({asked: path, quote(asked, UNQUOTED): path})
        return found

    return _each_text(resolved, value)


def _path(address: str) -> str:
    """What follows the host in an address."""
    return "/" + address.partition("://")[2].partition("/")[2]


def look_up(text: str) -> str:
    """A text with its references resolved, which :func:`hide` does not look for.

    Raises:
        PipelineError: a variable is not set.
    """
    return REFERENCE.sub(_looked_up, text)


def _value(found: re.Match[str]) -> str:
    value = _looked_up(found)
    _resolved[value] = found[0]
    return value


def _looked_up(found: re.Match[str]) -> str:
    name, default = found.groups()
    value = os.environ.get(name, default)
    if value is None:
        kind = "held a secret of the command line" if name.startswith(PREFIX) else "is needed here"
        raise PipelineError(
            f"the environment variable {name} {kind}, and is not set",
            f"set {name}, or give the setting anew",
        )
    if name.startswith(PREFIX):  # what was moved may have named variables itself
        value = REFERENCE.sub(_value, value)
    return value


def _deciding(text: str) -> list[str]:
    """The variables of a text, without those in an address's login and credentials."""
    if not ADDRESS.fullmatch(text):
        # a secret that is a whole setting counts: its key only looks like that of one
        is_whole = REFERENCE.fullmatch(text)
        names = [found[1] for found in REFERENCE.finditer(text)]
        return [name for name in names if is_whole or not name.startswith(PREFIX)]
    query = text.partition("?")[2].split("&")
    kept = [part for part in query if not is_credential(part, query)]
    text = LOGIN.sub("", text.partition("?")[0]) + "&".join(kept)
    names = [found[1] for found in REFERENCE.finditer(text)]
    return [name for name in names if not name.startswith(PREFIX)]


def hide(value: Any) -> Any:
    """A value with references again in place of all that was resolved here."""

    def hidden(text: str) -> str:
        for found in sorted(_resolved, key=len, reverse=True):
            if len(found) >= SHORTEST or found == text:
                text = text.replace(found, _resolved[found])
        return text

    return _each_text(hidden, value)


def shown(value: Any) -> Any:
    """A value for people to read: without secrets, and without the references to those moved."""
    return _each_text(lambda text: MOVED.sub("", text), hide(value))


def _each_text(change: Callable[[str], str], value: Any) -> Any:
    """A value with each text in it changed, also within lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _each_text(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(change, item) for item in value]
    return change(value) if isinstance(value, str) else value


def keep(key: str, text: str) -> str:
    """A setting as :func:`protect` gives it, its secrets now in this process's environment."""
    kept, moved = protect(key, text)
    variables.set_variables(moved)
    return kept


def without_login(address: str) -> str:
    """An address without the user name and the password in it."""
    if bare := BARE_LOGIN.match(address):
        address = f"{bare[1]}{address[bare.end() :]}"
    return LOGIN.sub(r"\1", address)


def query_of(address: str) -> str:
    """What follows the ``?`` of an address; one in its password begins no query."""
    login = LOGIN.match(address)
    return address[login.end() if login else 0 :].partition("?")[2]


def has_login(address: str) -> bool:
    """Whether an address, as :func:`protect` gives it, has a user name or a password in it."""
    return bool(LOGIN.search(address) or MOVED_LOGIN.match(address))
