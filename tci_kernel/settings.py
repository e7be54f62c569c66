"""Where to run and how, from the environment and `config.toml`.

Every field `name` is read from `TCI_NAME`, else from the same name in the TOML file
(`TCI_CONFIG`, by default `config.toml` in the user's configuration directory), else its default.
The environment wins. A key never leaves this object but as a request's header.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tci_kernel.errors import NotConfigured

#: Vendors whose own key variable is enough: the host and the variable go together, so that the
#: key of one is never sent to another.
VENDORS = {
    "TOGETHER_API_KEY": "https://api.together.ai",
    "BYTECOMPUTE_API_KEY": "https://api.bytecompute.ai",
}

#: Environment variables that hold keys: never handed to a session or a server.
KEY_VARIABLES = ("TCI_API_KEY", *VENDORS)


def config_file() -> Path:
    """Return the path of the TOML file, whether it is there or not."""
    named = os.environ.get("TCI_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("tci-kernel") / "config.toml"


class Settings(BaseSettings):
    """Everything a user can set. Times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(
        env_prefix="TCI_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    base_url: str | None = Field(
        None, repr=False, description="Address of the service, without `/tci`."
    )
    api_key: SecretStr | None = Field(
        None, description="Key for the service; unset: the vendor's own variable."
    )
    backend: Literal["auto", "local", "hosted"] = Field(
        "auto",
        description="`local` is the embedded server, `hosted` a service by address and key; "
        "`auto` takes the service if an address or a key is configured.",
    )
    transport: Literal["auto", "live", "plain"] = Field(
        "auto",
        description="How cells travel: `live` as Jupyter messages to an ipykernel in the session, "
        "`plain` as one request each; `auto` takes live where the session can, else plain.",
    )
    install: bool = Field(
        True, description="Install ipykernel in a session that lacks it, for live transport."
    )
    session_id: str | None = Field(None, description="Join this session instead of making one.")

    connect_timeout: float = Field(10.0, gt=0, description="Time to reach the service.")
    write_timeout: float = Field(60.0, gt=0, description="Time that sending may stand still.")
    cell_timeout: float | None = Field(
        None,
        gt=0,
        description="Time a cell may take in plain transport; unset: as long as it runs. "
        "Live transport waits for a cell as long as the session lives.",
    )
    answer_timeout: float = Field(
        20.0, gt=0, description="Time after which live transport takes an answer for lost."
    )
    handover_timeout: float = Field(
        120.0, gt=0, description="Time that a session waits for the next kernel after SIGTERM."
    )
    retries: int = Field(
        5,
        ge=0,
        description="How often a request that did not run, or one that makes a session, "
        "is repeated.",
    )

    file_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders besides the notebook's own that `%tci upload` may read."
    )
    upload_part_size: int = Field(
        4 * 2**20, ge=1024, description="Most bytes of files in one request."
    )

    python: str | None = Field(
        None, description="Interpreter of the embedded server's sessions; unset: this one."
    )
    sandbox: Literal["auto", "bubblewrap", "none"] = Field(
        "auto",
        description="Isolation of the embedded server's sessions: `bubblewrap`, `none`, or `auto`: "
        "bubblewrap where it works.",
    )
    warm: int = Field(1, ge=0, description="Started sessions that the embedded server keeps ready.")
    server_idle: float = Field(
        300.0, gt=0, description="The embedded server ends this long after its last session."
    )
    runtime_dir: Path | None = Field(
        None, description="Folder of the embedded server's socket; unset: the system's choice."
    )

    @field_validator("file_roots", mode="before")
    @classmethod
    def _split_path_list(cls, value: Any) -> Any:
        """Accept `TCI_FILE_ROOTS` in the form of `PATH`, and a TOML list."""
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("base_url")
    @classmethod
    def _without_endpoint(cls, value: str | None) -> str | None:
        """Return the address without a trailing `/` or `/tci`, which the client adds itself."""
        return None if value is None else value.rstrip("/").removesuffix("/tci").rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, then the TOML file; a `.env` beside a notebook is not trusted."""
        del dotenv_settings, file_secret_settings
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=config_file()),
        )

    @property
    def local(self) -> bool:
        """Whether cells run on this machine, in the embedded server that starts by itself."""
        if self.backend != "auto":
            return self.backend == "local"
        return self.base_url is None and self.key is None

    @property
    def url(self) -> str:
        """Address of the configured service.

        Raises `NotConfigured` if there is none, or if a key would travel unencrypted.
        """
        url = self.base_url or self._vendor_url()
        if url is None:
            raise NotConfigured(
                "No address is configured. Set TCI_BASE_URL (and TCI_API_KEY), or "
                "TCI_BACKEND=local to run on this machine. Nothing has run."
            )
        parts = _split(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise NotConfigured(
                f"TCI_BASE_URL is not an http(s) address: {_without_user(url)!r}. Begin it with "
                "https:// (or http:// on this machine). Nothing has run."
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname) and self.key is not None:
            raise NotConfigured(
                f"A key is configured, and {_without_user(url)} is not encrypted: the key is not "
                "sent. Use an https:// address. Nothing has run."
            )
        return url

    @property
    def shown_url(self) -> str:
        """`url` as it may be shown and written down."""
        return _without_user(self.url)

    @property
    def key(self) -> SecretStr | None:
        """The key for `url`: `TCI_API_KEY`, else the vendor's own for the vendor's own host."""
        if self.api_key is not None:
            return _checked(self.api_key)
        for variable, host in VENDORS.items():
            key = os.environ.get(variable)
            if key and (self.base_url is None or _same_host(self.base_url, host)):
                return _checked(SecretStr(key))
        return None

    def _vendor_url(self) -> str | None:
        for variable, host in VENDORS.items():
            if os.environ.get(variable):
                return host
        return VENDORS["TOGETHER_API_KEY"] if self.api_key is not None else None


def load(**overrides: Any) -> Settings:
    """Return the settings in force; raises `NotConfigured` where one cannot be read."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise NotConfigured(_explain(error)) from None
    except ValueError as error:  # a TOML file that does not parse
        raise NotConfigured(f"{config_file()} cannot be read: {error}") from None


def _checked(key: SecretStr) -> SecretStr:
    """Return a key that can stand in a header: the HTTP library's complaint would show it."""
    text = key.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise NotConfigured("The key has characters that no key has. Set TCI_API_KEY anew.")
    return SecretStr(text)


def _explain(error: ValidationError) -> str:
    """Say which settings are wrong, without their values: one may be a key."""
    parts = [
        f"TCI_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
    return f"Settings that cannot be used: {'; '.join(parts)}. Nothing has run."


def _split(url: str) -> SplitResult:
    """Return the parts of an address; raises `NotConfigured` for a port that cannot be."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:  # it may quote a part of a password
        reason = "its port or password cannot be read" if "@" in url else error
        raise NotConfigured(f"TCI_BASE_URL is not an address: {reason}. Nothing has run.") from None
    return parts


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _same_host(url: str, other: str) -> bool:
    return urlsplit(url).hostname == urlsplit(other).hostname


def _without_user(url: str) -> str:
    """Return an address that may be shown: a password in it is a key too."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1…@", url, flags=re.IGNORECASE | re.DOTALL)
