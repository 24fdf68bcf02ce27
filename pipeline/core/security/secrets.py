"""Secrets in settings: passed on and recorded as the names of the variables that hold them.

A setting from the environment reaches a step as its reference, ``${oc.env:NAME}``, and is resolved
there. A secret in the text of a setting, such as the signature of an address, first moves into a
variable of its own (:func:`protect`). So no log, screen or file holds a secret, and a new
signature does not change the setting.
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
# The part before an @. In some of Azure's addresses it names a folder, and in a path it is a name.
# A password may contain a slash, unless it looks like a port and a path.
LOGIN = re.compile(
    rf"((?!wasbs?:|abfss?:|file:){BEGIN})"
    r"([^/?#\\]*|(?!\[)[^/?#:@\\]*:(?!\d*[,/?#])[^@]*)@",
    re.IGNORECASE,
)
# The same without slashes, as in https:u:P@host or u:P@host, except for a path or a host's port
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
# Words that make a key that of a secret. "key", "code" and "cookie" alone are ordinary names.
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
# Words that make a key that of an address
OF_ADDRESSES = {
    "address", "addresses", "dsn", "endpoint", "endpoints", "proxy", "root", "server", "servers",
    "storage", "store", "uri", "uris", "url", "urls",
}  # fmt: skip
# Parameters that change with each new signature: of Azure, Amazon and Google
SIGNED = {
    "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip", "sdd", "skoid", "sktid", "skt", "ske",
    "sks", "skv", "saoid", "suoid", "scid", "ses", "expires", "awsaccesskeyid", "googleaccessid",
    "policy", "key-pair-id",
}  # fmt: skip
SIGNERS = ("x-amz-", "x-goog-")
UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # characters that requests does not quote in an address
SHORTEST = 4  # characters of a value that is searched in other texts

_resolved: dict[str, str] = {}  # resolved texts of this process, and their references


def reference(name: str) -> str:
    """The reference to an environment variable in a setting."""
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
    """Whether a text is only a reference, without a default, which may be a secret."""
    match = REFERENCE.fullmatch(text)
    return bool(match and not match[2])


def is_address(key: str) -> bool:
    """Whether a key looks like that of an address or of several."""
    return any(not OF_ADDRESSES.isdisjoint(_words(part)) for part in _parts(key))


def _parts(key: str) -> list[str]:
    """The parts of a dotted key below its section, among them indexes and names of items."""
    return key.split(".")[1:] or [key]


def _words(key: str) -> list[str]:
    """The words of a key: ``api_key``, ``apiKey`` and ``APIKey`` have the same two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", key)]


def protect(key: str, text: str) -> tuple[str, dict[str, str]]:
    """Replace the secrets of a setting by references.

    Args:
        key: the setting's name, from which the names of the variables come.
        text: its value: a secret, or any text with addresses in it.

    Returns:
        The value with references, and the variables to set to the secrets.
    """
    secrets: dict[str, str] = {}

    def move(secret: str) -> str:
        name = PREFIX + re.sub(r"\W", "_", key).upper()
        name += f"_{len(secrets) + 1}" if secrets else ""
        secrets[name] = secret
        return reference(name)

    if not text or _is_named(text):
        return text, secrets
    if any(map(is_secret, _parts(key))):
        return move(text), secrets
    if alone := ALONE.fullmatch(text):
        start, end = alone.span("address")
        return f"{text[:start]}{_protect_address(alone['address'], move)}{text[end:]}", secrets
    if is_address(key) and not text.startswith(("{", "[")) and not _is_file(text):
        if bare := BARE_LOGIN.match(text):
            text = f"{bare[1]}{move(bare[2])}@{text[bare.end() :]}"
        if not re.search(BEGIN, text):
            return _protect_address(text, move), secrets
    if text.startswith(("{", "[")):
        text = ENTRY.sub(lambda entry: _protect_entry(entry, move), text)
    return ADDRESS.sub(lambda address: _protect_address(address[0], move), text), secrets


def _is_file(text: str) -> bool:
    return os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111 - any text may come here


def _protect_entry(entry: re.Match[str], move: Callable[[str], str]) -> str:
    """Protect an entry of a mapping in a text, such as ``{api_key: abc}``."""
    value = next((group for group in entry.groups()[2:] if group), "")
    start, _, end = entry[0].rpartition(value)
    if not is_secret(entry[2]) and value == entry[6]:  # a list or a mapping
        return f"{start}{ENTRY.sub(lambda inner: _protect_entry(inner, move), value)}{end}"
    if not value or not is_secret(entry[2]) or _is_named(value):
        return entry[0]
    return f"{start}{move(value)}{end}"


def _protect_address(text: str, move: Callable[[str], str]) -> str:
    login = LOGIN.match(text)
    if login and login[2] and not _is_named(login[2]):
        text = f"{login[1]}{move(login[2])}@{text[login.end() :]}"
    address, mark, fragment = text.partition("#")
    address, question, query = address.partition("?")
    folder, slash, name = address.rpartition("/")
    name, semicolon, parameters = name.partition(";")
    parts = [_protect_query(part, move) for part in (parameters, query, fragment)]
    return f"{folder}{slash}{name}{semicolon}{parts[0]}{question}{parts[1]}{mark}{parts[2]}"


def _protect_query(query: str, move: Callable[[str], str]) -> str:
    """Replace the credentials of a query, or of a text like it, by one reference at its end."""
    pieces = re.split(r"([&;])", query)
    parts, separators = pieces[::2], ["", *pieces[1::2]]
    credentials = [is_credential(part, parts) and not _has_only_references(part) for part in parts]
    if not any(credentials):
        return query
    items = list(zip(separators, parts, credentials, strict=True))
    separator = next((mark for mark, _, is_moved in items if is_moved and mark), "&")
    public = "".join(f"{mark}{part}" for mark, part, is_moved in items if not is_moved)
    moved = move(separator.join(part for _, part, is_moved in items if is_moved))
    public = public[1:] if credentials[0] else public  # without its leading separator
    return f"{public}{separator}{moved}" if public else moved


def _has_only_references(part: str) -> bool:
    """Whether a part of a query has references, and no default that may be a secret."""
    references = REFERENCE.findall(part)
    return bool(references) and not any(default for _, default in references)


def is_credential(part: str, query: list[str]) -> bool:
    """Whether a part of a query, ``name=value``, grants access rather than selects data."""
    name = unquote(part.partition("=")[0])
    names = {other.partition("=")[0].lower() for other in query}
    signed = not names.isdisjoint(("sig", "signature"))
    return (
        is_secret(name) or name.lower().startswith(SIGNERS) or (signed and name.lower() in SIGNED)
    )


def resolve(value: Any, on_read: Callable[[str], None] = lambda _: None) -> Any:
    """Resolve the references of a value, also in lists and mappings.

    Args:
        value: the value.
        on_read: called with the name of each variable that decides what the value means, without
            those that only grant access to an address.

    Raises:
        PipelineError: a variable is not set.
    """

    def resolved(text: str) -> str:
        if not REFERENCE.search(text):
            return text
        for name in _deciding_variables(text):
            on_read(name)
        value = REFERENCE.sub(_value, text)
        _resolved[value] = text
        if ADDRESS.match(value):  # errors of an HTTP library have the quoted path without the host
            path = _path(text) if "://" in text else text
            requested = _path(value)
            _resolved.update({requested: path, quote(requested, UNQUOTED): path})
        return value

    return _each_text(resolved, value)


def _path(address: str) -> str:
    """The part of an address after its host."""
    return "/" + address.partition("://")[2].partition("/")[2]


def look_up(text: str) -> str:
    """Resolve the references of a text; :func:`hide` does not search for the values.

    Raises:
        PipelineError: a variable is not set.
    """
    return REFERENCE.sub(_looked_up, text)


def _value(match: re.Match[str]) -> str:
    value = _looked_up(match)
    _resolved[value] = match[0]
    return value


def _looked_up(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        kind = "held a secret of the command line" if name.startswith(PREFIX) else "is needed here"
        raise PipelineError(
            f"the environment variable {name} {kind}, and is not set",
            f"set {name}, or give the setting anew",
        )
    if name.startswith(PREFIX):  # a moved secret may contain references
        value = REFERENCE.sub(_value, value)
    return value


def _deciding_variables(text: str) -> list[str]:
    """The variables of a text, without those in an address's login and credentials."""
    if not ADDRESS.fullmatch(text):
        # the value of a whole setting counts: it may be no secret in spite of its key
        is_whole = REFERENCE.fullmatch(text)
        names = [match[1] for match in REFERENCE.finditer(text)]
        return [name for name in names if is_whole or not name.startswith(PREFIX)]
    query = text.partition("?")[2].split("&")
    public = [part for part in query if not is_credential(part, query)]
    text = LOGIN.sub("", text.partition("?")[0]) + "&".join(public)
    names = [match[1] for match in REFERENCE.finditer(text)]
    return [name for name in names if not name.startswith(PREFIX)]


def hide(value: Any) -> Any:
    """Replace all values that this process has resolved by their references again."""

    def hidden(text: str) -> str:
        for secret in sorted(_resolved, key=len, reverse=True):
            if len(secret) >= SHORTEST or secret == text:
                text = text.replace(secret, _resolved[secret])
        return text

    return _each_text(hidden, value)


def for_display(value: Any) -> Any:
    """A value for people to read, without secrets and without references to moved secrets."""
    return _each_text(lambda text: MOVED.sub("", text), hide(value))


def _each_text(change: Callable[[str], str], value: Any) -> Any:
    """Change each text of a value, also in lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _each_text(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(change, item) for item in value]
    return change(value) if isinstance(value, str) else value


def move_to_environment(key: str, text: str) -> str:
    """Protect a setting (:func:`protect`), and set the variables of its secrets."""
    protected, secrets = protect(key, text)
    variables.set_variables(secrets)
    return protected


def without_login(address: str) -> str:
    """An address without its user name and password."""
    if bare := BARE_LOGIN.match(address):
        address = f"{bare[1]}{address[bare.end() :]}"
    return LOGIN.sub(r"\1", address)


def query_of(address: str) -> str:
    """The query of an address; a ``?`` in its password does not start it."""
    login = LOGIN.match(address)
    return address[login.end() if login else 0 :].partition("?")[2]


def has_login(address: str) -> bool:
    """Whether an address, protected or not, has a user name or a password."""
    return bool(LOGIN.search(address) or MOVED_LOGIN.match(address))
