# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LUKS volumes: encrypted by cryptsetup and QEMU, by every cipher of the kernel, and hostile."""

from __future__ import annotations

import copy
import json
import random
import re
import resource
import shutil
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    KernelError,
    UnsupportedFeature,
    VolumeError,
)
from explorer.core.messages import describe
from explorer.host.memory import available_memory
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.kernel.keyring import lend_key
from explorer.volumes import Stack, luks
from explorer.volumes.luks import read_header, unlock
from explorer.volumes.luks2 import read_luks2
from explorer.volumes.luks_header import Argon2, LuksHeader, Pbkdf2
from explorer.volumes.window import Window
from tests.images.checks import check_described
from tests.images.encrypted import create_encrypted, fill_encrypted, make_luks1
from tests.makers import ScratchDisk
from tests.trees import make_empty, noise, run_tool
from tests.volumes.luks_maker import (
    AREA,
    AREAS,
    HEADER,
    MIB,
    PAYLOAD,
    SECTOR,
    UUID,
    Recipe,
    base64,
    binary_header,
    make_luks2,
    map_crypt,
    map_tags,
    write_device,
    write_header,
    write_slices,
)
from tests.volumes.truth import copy_of, real_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from explorer.kernel import BlockDevice

PASSPHRASE = b"geheim"
"""What tests.images.encrypted and the recipes use."""
WRONG = b"falsch"


class Opened:
    """A volume by itself on a disk of the kernel."""

    def __init__(self, kernel: Kernel, path: Path, *, overlay: int = 0) -> None:
        self._stack = ExitStack()
        image = self._stack.enter_context(open_image(path, "raw"))
        disk = self._stack.enter_context(kernel.add_disk(image, overlay_limit=overlay))
        self.name = str(path)
        self.kernel = kernel
        self.device: BlockDevice = disk.device()
        self.window = Window(image.read, 0, image.size)
        self.read_only = not overlay

    def header(self) -> LuksHeader:
        """Its header."""
        header = read_header(self.window, self.name)
        assert header is not None
        return header

    def read(self, passphrase: bytes, length: int, offset: int = 0) -> bytes:
        """Bytes of what it holds."""
        with unlock(
            self.kernel,
            self.device,
            self.header(),
            passphrase,
            name=self.name,
            read_only=self.read_only,
        ) as opened:
            return opened.read(offset, length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@pytest.fixture
def opened(kernel: Kernel, unchanged: Callable[[Path], Path]) -> Iterator[Callable[[Path], Opened]]:
    """Opens volumes, which must not change by it."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Opened(kernel, unchanged(path)))


def check_wrong(volume: Opened, passphrase: bytes) -> str:
    with pytest.raises(VolumeError) as caught:
        volume.read(passphrase, 16)
    assert caught.value.code == "volume.passphrase-wrong"
    assert volume.name in describe(caught.value)
    return describe(caught.value)


def check_refused(volume: Opened, passphrase: bytes = PASSPHRASE) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        volume.read(passphrase, 16)
    return describe(caught.value)


def luks_dump(path: Path) -> str:
    return run_tool("cryptsetup", "luksDump", path)


def cryptsetup(path: Path, *command: str, passphrase: bytes = PASSPHRASE) -> None:
    """Run a command about a volume, with a passphrase that is not typed."""
    key_file = path.with_suffix(".key")
    key_file.write_bytes(passphrase)
    run_tool("cryptsetup", "--batch-mode", f"--key-file={key_file}", *command, str(path))


QUICK = ("--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
QUICK_ARGON = ("--pbkdf-memory=32", "--pbkdf-parallel=1", "--pbkdf-force-iterations=4")


def encrypt_in_place(path: Path, *options: str) -> Path:
    """Have cryptsetup encrypt a disk where it stands, but for its last 16 MiB."""
    cryptsetup(
        path, "reencrypt", "--encrypt", "--type=luks2", "--reduce-device-size=16M", *options,
    )  # fmt: skip
    return path


# ---- Encrypted by others -----------------------------------------------------------------------


@pytest.mark.proves("volume", "LUKS", "LUKS2, PBKDF2 and Argon2")
@pytest.mark.parametrize(("cipher", "bits", "options"), [
    ("aes-xts-plain64", 512, QUICK),
    ("aes-xts-plain64", 256, (*QUICK, "--sector-size=4096")),
    ("aes-xts-plain64", 512, (*QUICK, "--sector-size=1024", "--hash=sha512")),
    ("aes-cbc-essiv:sha256", 256, (*QUICK, "--sector-size=2048")),
    ("aes-cbc-plain64", 192, QUICK),
    ("camellia-cbc-plain64", 256, QUICK),
    ("camellia-cbc-essiv:sha256", 256, (*QUICK, "--sector-size=4096")),
    ("aes-xts-plain64", 512, ("--pbkdf=argon2id", *QUICK_ARGON)),
    ("aes-xts-plain64", 512, ("--pbkdf=argon2i", *QUICK_ARGON)),
    ("aes-xts-plain64", 512, ("--pbkdf=argon2id", "--pbkdf-memory=65536", "--pbkdf-parallel=4",
                              "--pbkdf-force-iterations=5")),
    ("aes-xts-plain64", 512, (*QUICK, "--luks2-metadata-size=128k")),
])  # fmt: skip
def test_luks2_by_cryptsetup(
    cipher: str,
    bits: int,
    options: tuple[str, ...],
    tmp_path: Path,
    opened: Callable[[Path], Opened],
) -> None:
    content = noise(4 * MIB, 1)
    path = tmp_path / "disk"
    path.write_bytes(content.ljust(24 * MIB, b"\0"))
    encrypt_in_place(path, f"--cipher={cipher}", f"--key-size={bits}", *options)
    volume = opened(path)
    assert volume.read(PASSPHRASE, len(content)) == content
    check_wrong(volume, WRONG)
    header, told = volume.header(), luks_dump(path)
    segment = header.segments[0]
    assert header.uuid == re.findall(r"UUID:\s+(\S+)", told)[0]
    assert segment.cipher == cipher == re.findall(r"cipher: (\S+)", told)[0]
    assert str(segment.offset) == re.findall(r"offset: (\d+)", told)[0]
    assert str(segment.sector_size) == re.findall(r"sector: (\d+)", told)[0]
    assert header.facts()["key size"] == re.findall(r"Key: +(\d+ bits)", told)[0]
    kdf = header.slots[0].kdf
    assert (kdf.kind if isinstance(kdf, Argon2) else "pbkdf2") == re.findall(
        r"PBKDF: +(\S+)", told
    )[0]
    if isinstance(kdf, Argon2):
        assert [str(kdf.passes), str(kdf.memory), str(kdf.lanes)] == [
            re.findall(rf"{name}: +(\d+)", told)[0] for name in ("Time cost", "Memory", "Threads")
        ]
    else:
        assert str(kdf.iterations) == re.findall(r"Iterations: +(\d+)", told)[0]


QEMU = {
    "aes-256 xts": ("cipher-alg=aes-256", "cipher-mode=xts", "ivgen-alg=plain64"),
    "aes-256 cbc essiv": (
        "cipher-alg=aes-256", "cipher-mode=cbc", "ivgen-alg=essiv", "ivgen-hash-alg=sha256",
    ),
    "aes-128 cbc plain": ("cipher-alg=aes-128", "cipher-mode=cbc", "ivgen-alg=plain"),
    "aes-256 ctr": ("cipher-alg=aes-256", "cipher-mode=ctr", "ivgen-alg=plain64"),
    "aes-256 ecb": ("cipher-alg=aes-256", "cipher-mode=ecb", "ivgen-alg=plain64"),
    "serpent-256 xts": ("cipher-alg=serpent-256", "cipher-mode=xts", "ivgen-alg=plain64"),
    "twofish-128 xts": ("cipher-alg=twofish-128", "cipher-mode=xts", "ivgen-alg=plain64"),
    "twofish-256 cbc essiv": (
        "cipher-alg=twofish-256", "cipher-mode=cbc", "ivgen-alg=essiv", "ivgen-hash-alg=sha256",
    ),
    "cast5-128 cbc": ("cipher-alg=cast5-128", "cipher-mode=cbc", "ivgen-alg=plain64"),
}  # fmt: skip


@pytest.mark.proves("volume", "LUKS", "LUKS1")
@pytest.mark.parametrize("name", QEMU)
def test_luks1_by_qemu(name: str, tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(noise(MIB, 2))
    path = tmp_path / "disk"
    options = ("key-secret=secret", "iter-time=10", "hash-alg=sha1", *QEMU[name])
    create_encrypted(path, "luks", MIB, *options)
    fill_encrypted(raw, path, "luks")
    volume = opened(path)
    assert volume.read(PASSPHRASE, 2 * MIB) == raw.read_bytes()
    check_wrong(volume, WRONG)
    facts = volume.header().facts()
    assert facts["version"] == 1
    assert str(facts["cipher"]).startswith(name.split("-")[0])


@pytest.mark.proves("volume", "LUKS", "hashes")
@pytest.mark.parametrize("hashed", [
    "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "sha3-256", "sha3-512",
])  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_hashes(
    hashed: str, version: int, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    path = make_formatted(tmp_path / "disk", version, f"--hash={hashed}")
    volume = opened(path)
    assert len(volume.read(PASSPHRASE, 512)) == 512
    kdf = volume.header().slots[0].kdf
    assert isinstance(kdf, Pbkdf2)
    assert (kdf.hash, volume.header().slots[0].stripe_hash) == (hashed, hashed)
    check_wrong(volume, WRONG)


def make_formatted(path: Path, version: int, *options: str) -> Path:
    """A volume by cryptsetup, whose payload is what decrypts from zeros."""
    if version == 1:
        return make_luks1(path, PASSPHRASE, *options)
    make_empty(path, 20 * MIB)
    cryptsetup(path, "luksFormat", "--type=luks2", *QUICK, *options)
    return path


@pytest.mark.proves("volume", "LUKS", "hashes")
@pytest.mark.parametrize("hashed", ["whirlpool", "blake2b-512", "blake2s-256"])
@pytest.mark.parametrize("version", [1, 2])
def test_hashes_that_are_refused(
    hashed: str, version: int, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    volume = opened(make_formatted(tmp_path / "disk", version, f"--hash={hashed}"))
    assert f"the hash {hashed}" in check_refused(volume)


# ---- Every cipher of the kernel ----------------------------------------------------------------

CIPHERS: dict[str, tuple[int, int]] = {
    # Bytes of the key and of a sector.
    "aes-xts-plain64": (64, 512),
    "aes-xts-plain": (32, 512),
    "aes-xts-plain64be": (64, 4096),
    "aes-xts-benbi": (64, 512),
    "aes-cbc-null": (32, 512),
    "aes-cbc-eboiv": (32, 512),
    "aes-ecb": (32, 512),
    "aes-ctr-plain64": (24, 512),
    "aes-pcbc-plain64": (16, 512),
    "aes-lrw-benbi": (48, 512),
    "serpent-xts-plain64": (64, 4096),
    "serpent-cbc-essiv:sha256": (32, 512),
    "serpent-lrw-benbi": (48, 512),
    "twofish-xts-plain64": (64, 2048),
    "twofish-lrw-benbi": (48, 512),
    "camellia-xts-plain64": (64, 512),
    "camellia-cbc-essiv:sha256": (32, 512),
    "cast6-xts-plain64": (64, 512),
    "cast6-lrw-benbi": (48, 512),
    "cast5-cbc-plain64": (16, 512),
    "blowfish-cbc-plain64": (56, 512),
    "des3_ede-cbc-plain64": (24, 512),
    "xchacha12,aes-adiantum-plain64": (32, 4096),
    "xchacha20,aes-adiantum-plain64": (32, 512),
    "capi:xts(serpent)-plain64": (64, 512),
    "capi:cbc(aes)-essiv:sha256": (32, 512),
    "capi:adiantum(xchacha12,aes)-plain64": (32, 4096),
    "cipher_null-ecb": (32, 512),
}


@pytest.mark.proves("volume", "LUKS", "every cipher of the kernel")
@pytest.mark.parametrize("cipher", CIPHERS)
def test_ciphers(cipher: str, tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    key_size, sector_size = CIPHERS[cipher]
    recipe = Recipe(
        cipher=cipher,
        key_size=key_size,
        slot_cipher=cipher,
        slot_key_size=key_size,
        sector_size=sector_size,
        first_sector=8 << 30,
    )
    content = noise(128 * 1024, 3)
    path = make_luks2(tmp_path / "disk", recipe, content)
    # It takes no cipher here to see that the header is one.
    assert re.search(rf"cipher: {re.escape(cipher)}$", luks_dump(path), re.MULTILINE)
    volume = opened(path)
    assert volume.read(PASSPHRASE, len(content)) == content
    # Whatever is typed, this one decrypts the same.
    if cipher != "cipher_null-ecb":
        check_wrong(volume, WRONG)
        with path.open("rb") as file:
            file.seek(PAYLOAD)
            assert file.read(512) != content[:512]


def test_the_maker_is_right_by_cryptsetup(tmp_path: Path) -> None:
    path = make_luks2(tmp_path / "disk", Recipe(), bytes(4096))
    cryptsetup(path, "open", "--test-passphrase")
    key = run_tool(
        "cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key",
        f"--key-file={path.with_suffix('.key')}", str(path),
    ).partition("MK dump:")[2]  # fmt: skip
    assert bytes.fromhex(key) == Recipe().key


NO_CIPHERS = (
    "aes-xts-plain65", "aes-no-plain64", "rot13-cbc-plain64", "aes:64-cbc-lmk", "aes",
    "aes-xts-plain64 0", "capi:authenc(hmac(sha256),xts(aes))-random", "capi:", "aes-cbc-essiv",
    "aes-cbc-essiv:rot13", "a" * 200, "aes-xts-plain64\n", "AES-XTS-PLAIN64", "aes-xts-random",
)  # fmt: skip


@pytest.mark.parametrize("cipher", NO_CIPHERS)
@pytest.mark.parametrize("where", ["slot", "payload"])
def test_ciphers_that_are_refused(
    cipher: str, where: str, template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    metadata = Recipe().metadata()
    if where == "slot":
        metadata["keyslots"]["0"]["area"]["encryption"] = cipher
    else:
        metadata["segments"]["0"]["encryption"] = cipher
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert "cipher" in check_refused(opened(path))


@pytest.mark.parametrize("size", [1, 15, 63, 65, 512])
def test_keys_of_impossible_sizes(
    size: int, template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    metadata = Recipe().metadata()
    metadata["keyslots"]["0"]["area"]["key_size"] = size
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert f"{8 * size} bits" in check_refused(opened(path))


# ---- Key slots ---------------------------------------------------------------------------------


@pytest.mark.proves("volume", "LUKS", "several key slots, priorities")
@pytest.mark.parametrize("version", [1, 2])
def test_all_key_slots_are_tried(
    version: int, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    path = make_formatted(tmp_path / "disk", version)
    passphrases = [b"", b"zweite", "Größe 日本語".encode(), bytes(range(256)), b"x" * 8000]
    for number, passphrase in enumerate(passphrases[1:], 1):
        more = tmp_path / "more"
        more.write_bytes(passphrase)
        key_file = path.with_suffix(".key")
        key_file.write_bytes(PASSPHRASE)
        run_tool(
            "cryptsetup", "luksAddKey", "--batch-mode", f"--key-file={key_file}",
            f"--key-slot={2 * number - 1}", *QUICK, str(path), str(more),
        )  # fmt: skip
    volume = opened(path)
    assert [slot.number for slot in volume.header().slots] == [0, 1, 3, 5, 7]
    plain = volume.read(PASSPHRASE, 4096)
    for passphrase in passphrases[1:]:
        assert volume.read(passphrase, 4096) == plain
    for wrong in (b"", b"zweite\n", b"Zweite", bytes(range(255)), b"x" * 7999):
        check_wrong(volume, wrong)


@pytest.mark.proves("volume", "LUKS", "several key slots, priorities")
def test_priorities(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    path = make_formatted(tmp_path / "disk", 2)
    key_file = path.with_suffix(".key")
    for name in (b"one", b"two"):
        (tmp_path / "more").write_bytes(name)
        run_tool("cryptsetup", "luksAddKey", "--batch-mode", f"--key-file={key_file}", *QUICK,
                 str(path), str(tmp_path / "more"))  # fmt: skip
    run_tool("cryptsetup", "config", "--priority=ignore", "--key-slot=0", str(path))
    run_tool("cryptsetup", "config", "--priority=prefer", "--key-slot=2", str(path))
    volume = opened(path)
    assert [slot.priority for slot in volume.header().slots] == [0, 1, 2]
    assert [count_tries(volume, one) for one in (b"two", b"one", PASSPHRASE)] == [1, 2, 3]
    with pytest.raises(VolumeError, match="passphrase-wrong"):
        count_tries(volume, WRONG)


def count_tries(volume: Opened, passphrase: bytes) -> int:
    """How many key slots are tried until the volume is open."""
    tries = 0

    def count() -> bool:
        nonlocal tries
        tries += 1
        return False

    unlock(volume.kernel, volume.device, volume.header(), passphrase, cancelled=count).close()
    return tries


def test_it_can_be_cancelled(template: Path, opened: Callable[[Path], Opened]) -> None:
    volume = opened(template)
    with pytest.raises(ExplorerError) as caught:
        unlock(volume.kernel, volume.device, volume.header(), PASSPHRASE, cancelled=lambda: True)
    assert caught.value.code == "request.cancelled"


def test_a_key_slot_that_cannot_be_tried_leaves_the_others(
    tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    path = make_luks2(tmp_path / "disk", Recipe(), b"content".ljust(512))
    metadata = Recipe().metadata()
    first = metadata["keyslots"]["0"]
    other = copy.deepcopy(first)
    other["kdf"]["hash"] = "whirlpool"
    other["area"]["offset"] = str(AREAS + AREA)
    metadata["keyslots"] = {"0": other, "5": first}
    metadata["digests"]["0"]["keyslots"] = ["0", "5"]
    # The areas of the two change places, so the one that can be tried is the second.
    write_header(path, metadata)
    volume = opened(path)
    assert volume.read(PASSPHRASE, 7) == b"content"
    assert "the hash whirlpool" in check_wrong(volume, WRONG)


@pytest.mark.parametrize("version", [1, 2])
def test_without_key_slots(version: int, tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    path = make_formatted(tmp_path / "disk", version)
    run_tool("cryptsetup", "erase", "--batch-mode", str(path))
    volume = opened(path)
    with pytest.raises(VolumeError) as caught:
        volume.read(PASSPHRASE, 16)
    assert caught.value.code == "volume.no-key"
    check_described(caught.value)
    assert not {"key slots", "key size"} & volume.header().facts().keys()


def test_a_key_slot_of_another_key(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    path = make_formatted(tmp_path / "disk", 2)
    (tmp_path / "more").write_bytes(b"other")
    run_tool("cryptsetup", "luksAddKey", "--batch-mode", "--unbound", "--key-size=512", *QUICK,
             f"--key-file={path.with_suffix('.key')}", str(path),
             str(tmp_path / "more"))  # fmt: skip
    volume = opened(path)
    assert len(volume.header().slots) == 2
    volume.read(PASSPHRASE, 16)
    check_wrong(volume, b"other")


def test_tokens_and_flags_are_listed(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    path = make_formatted(tmp_path / "disk", 2, "--label=a label", "--subsystem=a subsystem")
    run_tool("cryptsetup", "token", "add", "--key-description=a key", str(path))
    facts = opened(path).header().facts()
    assert facts["tokens"] == ["0: luks2-keyring"]
    assert (facts["label"], facts["subsystem"]) == ("a label", "a subsystem")


# ---- What is not opened ------------------------------------------------------------------------


def test_an_encryption_that_was_not_finished(
    tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    path = make_empty(tmp_path / "disk", 40 * MIB)
    encrypt_in_place(path, "--init-only", *QUICK)
    volume = opened(path)
    assert "online-reencrypt" in check_refused(volume)
    assert any(str(slot).endswith("reencrypt") for slot in volume.header().foreign_slots)


@pytest.mark.proves("volume", "LUKS", "what is not known refused by name")
@pytest.mark.parametrize("names", [["offline-reencrypt"], ["opal"], ["from-the-future", "x"]])
def test_requirements_are_refused_by_name(
    names: list[str], template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    metadata = Recipe().metadata()
    metadata["config"]["requirements"] = {"mandatory": names}
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert ", ".join(names) in check_refused(opened(path))


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_by_itself(version: int, tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    path = make_empty(tmp_path / "header", 20 * MIB)
    data = make_empty(tmp_path / "data", MIB)
    key_file = tmp_path / "key"
    key_file.write_bytes(PASSPHRASE)
    run_tool("cryptsetup", "luksFormat", "--batch-mode", f"--type=luks{version}", *QUICK,
             f"--header={path}", str(data), str(key_file))  # fmt: skip
    assert "another device" in check_refused(opened(path))


COSTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "pbkdf2", "hash": "sha256", "iterations": (1 << 32) - 1}, "4294967295 iterations"),
    ({"type": "pbkdf2", "hash": "sha256", "iterations": (1 << 29) + 1}, "536870913 iterations"),
    ({"type": "pbkdf2", "hash": "ripemd160", "iterations": (1 << 22) + 1}, "4194305 iterations"),
    ({"type": "argon2id", "time": (1 << 32) - 1, "memory": 1024, "cpus": 1}, "4294967295 passes"),
    ({"type": "argon2id", "time": 1, "memory": (1 << 22) + 1, "cpus": 1}, "4194305 KiB"),
    ({"type": "argon2i", "time": 65, "memory": 1 << 22, "cpus": 1}, "65 passes"),
    ({"type": "argon2i", "time": 4, "memory": 1 << 20, "cpus": 65}, "65 lanes"),
    ({"type": "argon2i", "time": 4, "memory": 7, "cpus": 1}, "7 KiB"),
    ({"type": "argon2i", "time": 4, "memory": 64, "cpus": 1, "salt": "AAAA"}, "64 KiB"),
]


@pytest.mark.proves("volume", "LUKS", "bounded costs and memory")
@pytest.mark.parametrize(("kdf", "said"), COSTS)
def test_absurd_costs_are_refused(
    kdf: dict[str, Any],
    said: str,
    template: Path,
    tmp_path: Path,
    opened: Callable[[Path], Opened],
) -> None:
    metadata = Recipe().metadata()
    salt = metadata["keyslots"]["0"]["kdf"]["salt"]
    metadata["keyslots"]["0"]["kdf"] = {"salt": salt, **kdf}
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert said in check_refused(opened(path))


def test_a_digest_that_takes_too_long(
    template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    metadata = Recipe().metadata()
    metadata["digests"]["0"] |= {"iterations": 1 << 26, "digest": base64(bytes(1024))}
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert "a key of 1024 bytes" in check_refused(opened(path))


@pytest.mark.proves("volume", "LUKS", "bounded costs and memory")
def test_memory_that_the_host_has_not(
    template: Path,
    tmp_path: Path,
    opened: Callable[[Path], Opened],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = Recipe().metadata()
    salt = metadata["keyslots"]["0"]["kdf"]["salt"]
    metadata["keyslots"]["0"]["kdf"] = {
        "type": "argon2id", "time": 1, "memory": 64 << 10, "cpus": 1, "salt": salt,
    }  # fmt: skip
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    volume = opened(path)
    monkeypatch.setattr(luks, "available_memory", lambda: (64 << 20) - 1)
    with pytest.raises(VolumeError) as caught:
        volume.read(PASSPHRASE, 16)
    assert (caught.value.code, caught.value.params["needed"]) == ("volume.memory", 64)
    monkeypatch.setattr(luks, "available_memory", lambda: 64 << 20)
    check_wrong(volume, PASSPHRASE)
    monkeypatch.setattr(luks, "available_memory", lambda: None)
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_used() + (32 << 20), usual[1]))
    try:
        with pytest.raises(VolumeError, match="memory"):
            volume.read(PASSPHRASE, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


def memory_used() -> int:
    """Bytes of this process' address space; proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def test_the_host_tells_its_memory() -> None:
    # proc_meminfo(5)
    available = available_memory()
    assert available is not None
    assert 1 << 20 < available < 1 << 50


# ---- Segments ----------------------------------------------------------------------------------


@pytest.mark.proves("volume", "LUKS", "several segments")
def test_several_segments(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    content = noise(2 * MIB, 4)
    path = make_luks2(tmp_path / "disk", Recipe(size=12 * MIB), content[:MIB])
    metadata = Recipe().metadata()
    whole = metadata["segments"]["0"]
    with ExitStack() as stack:
        scratch = ScratchDisk(path)
        stack.callback(scratch.close)
        kernel = stack.enter_context(Kernel())
        device = stack.enter_context(kernel.add_scratch_disk(scratch)).device()
        start = 8 * MIB // SECTOR
        with map_crypt(device, "twofish-xts-plain64", Recipe().key, start, 512, first=77) as second:
            write_device(second, content[MIB : MIB + 256 * 1024])
    write_slices(path, [(10 * MIB, content[MIB + 256 * 1024 : 2 * MIB])])
    metadata["segments"] = {
        "10": {"type": "linear", "offset": str(10 * MIB), "size": "dynamic"},
        "3": {**whole, "size": str(MIB)},
        "4": {
            **whole, "offset": str(8 * MIB), "size": str(256 * 1024), "iv_tweak": "77",
            "encryption": "twofish-xts-plain64",
        },
        "5": {**whole, "offset": str(9 * MIB), "flags": ["backup-final"]},
    }  # fmt: skip
    metadata["digests"]["0"]["segments"] = ["3", "4", "5"]
    write_header(path, metadata)
    volume = opened(path)
    assert volume.read(PASSPHRASE, len(content)) == content
    assert volume.header().facts()["segments"] == [
        f"4: twofish-xts-plain64, 262144 bytes from {8 * MIB}",
        f"10: not encrypted, all that follows from {10 * MIB}",
    ]


def test_segments_with_keys_of_their_own(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    one, two = Recipe(), Recipe(key_size=32)
    path = make_luks2(tmp_path / "disk", one, b"first".ljust(4096))
    other = make_luks2(tmp_path / "other", two, b"second".ljust(4096))
    content = other.read_bytes()
    write_slices(path, [
        (AREAS + AREA, content[AREAS : AREAS + AREA]),
        (4 * MIB, content[PAYLOAD : PAYLOAD + 4096]),
    ])  # fmt: skip
    metadata, more = one.metadata(), two.metadata()
    metadata["keyslots"]["1"] = more["keyslots"]["0"]
    metadata["keyslots"]["1"]["area"]["offset"] = str(AREAS + AREA)
    metadata["digests"]["1"] = {**more["digests"]["0"], "keyslots": ["1"], "segments": ["1"]}
    metadata["segments"]["0"]["size"] = "4096"
    metadata["segments"]["1"] = {**more["segments"]["0"], "offset": str(4 * MIB)}
    write_header(path, metadata)
    volume = opened(path)
    assert volume.read(PASSPHRASE, 8192) == b"first".ljust(4096) + b"second".ljust(4096)


def test_a_segment_of_fixed_size(
    template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    metadata = Recipe().metadata()
    metadata["segments"]["0"]["size"] = str(MIB)
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_header(path, metadata)
    assert len(opened(path).read(PASSPHRASE, 8 * MIB)) == MIB


def test_a_volume_that_is_no_multiple_of_its_sectors(
    tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    recipe = Recipe(sector_size=4096)
    path = make_luks2(tmp_path / "disk", recipe, b"content".ljust(4096))
    with path.open("r+b") as file:
        file.truncate(recipe.size - 1536)
    assert len(opened(path).read(PASSPHRASE, recipe.size)) == recipe.size - PAYLOAD - 4096


# ---- Authenticated ciphers ---------------------------------------------------------------------

AUTHENTICATED = {
    # What the header says; size of the key and of a tag; what dm-crypt is told.
    "aes-xts-random, hmac": Recipe(
        cipher="aes-xts-random", integrity="hmac(sha256)", key_size=96, tag_size=48,
        table_cipher="capi:authenc(hmac(sha256),xts(aes))-random", size=16 * MIB,
    ),
    "aes-xts-plain64, hmac": Recipe(
        cipher="aes-xts-plain64", integrity="hmac(sha512)", key_size=128, tag_size=64,
        table_cipher="capi:authenc(hmac(sha512),xts(aes))-plain64", size=16 * MIB, sector_size=4096,
    ),
    "aes-xts-random, hmac with a longer key": Recipe(
        cipher="aes-xts-random", integrity="hmac(sha256)", key_size=128, tag_size=48,
        table_cipher="capi:authenc(hmac(sha256),xts(aes))-random", size=16 * MIB,
        integrity_fields={"key_size": 64},
    ),
    "aes-gcm-random": Recipe(
        cipher="aes-gcm-random", integrity="aead", key_size=32, tag_size=28,
        table_cipher="capi:gcm(aes)-random", size=16 * MIB,
    ),
    "aes-ccm-random": Recipe(
        cipher="aes-ccm-random", integrity="aead", key_size=35, tag_size=24,
        table_cipher="capi:rfc4309(ccm(aes))-random", size=16 * MIB,
    ),
    "aegis128-random": Recipe(
        cipher="aegis128-random", integrity="aead", key_size=16, tag_size=32,
        table_cipher="capi:aegis128-random", size=16 * MIB, sector_size=4096,
    ),
    "chacha20-random, poly1305": Recipe(
        cipher="chacha20-random", integrity="poly1305", key_size=32, tag_size=28,
        table_cipher="capi:rfc7539(chacha20,poly1305)-random", size=16 * MIB, sector_size=4096,
    ),
    "aes-xts-random, none": Recipe(
        cipher="aes-xts-random", integrity="none", key_size=64, tag_size=16,
        table_cipher="capi:xts(aes)-random", size=16 * MIB,
    ),
}  # fmt: skip


@pytest.mark.proves("volume", "LUKS", "authenticated (dm-integrity)")
@pytest.mark.parametrize("name", AUTHENTICATED)
def test_authenticated(name: str, tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    recipe = AUTHENTICATED[name]
    content = noise(256 * 1024, 5)
    path = make_luks2(tmp_path / "disk", recipe, content)
    assert luks_dump(path).count(recipe.integrity) >= 1
    volume = opened(path)
    assert volume.read(PASSPHRASE, len(content)) == content
    assert volume.header().facts()["integrity"] == recipe.integrity
    check_wrong(volume, WRONG)


def test_damage_to_authenticated_data_is_an_error(tmp_path: Path, kernel: Kernel) -> None:
    recipe = AUTHENTICATED["aes-gcm-random"]
    content = noise(256 * 1024, 5)
    path = make_luks2(tmp_path / "disk", recipe, content)
    raw = bytearray(path.read_bytes())
    # All of the data, for nothing here tells where a sector of it stands.
    for at in range(PAYLOAD + 4096, len(raw), 512):
        raw[at] ^= 1
    path.write_bytes(raw)
    with Opened(kernel, path) as volume, pytest.raises(KernelError) as caught:
        volume.read(PASSPHRASE, 4096)
    assert caught.value.name in ("EILSEQ", "EIO")


def test_the_journal_of_tags(tmp_path: Path, kernel: Kernel) -> None:
    """What only the journal has is there in the recovered view, and not as stored."""
    recipe = AUTHENTICATED["aes-gcm-random"]
    path = make_luks2(tmp_path / "disk", recipe, b"before".ljust(MIB))
    dirty = tmp_path / "dirty"
    with ExitStack() as stack:
        scratch = ScratchDisk(path)
        stack.callback(scratch.close)
        writer = stack.enter_context(Kernel())
        device = stack.enter_context(writer.add_scratch_disk(scratch)).device()
        start = PAYLOAD // SECTOR
        tags = stack.enter_context(
            map_tags(device, start, recipe.tag_size, SECTOR, journal=True, exists=True)
        )
        sectors = tags.size() // SECTOR
        with map_crypt(
            tags, recipe.table_cipher, recipe.key, 0, sectors, "integrity:28:aead"
        ) as mapped:
            write_device(mapped, b"after".ljust(4096))
            shutil.copy(path, dirty)
    with Opened(kernel, dirty) as volume:
        assert volume.read(PASSPHRASE, 6) == b"before"
    with Opened(kernel, dirty, overlay=8 * MIB) as volume:
        assert volume.read(PASSPHRASE, 5) == b"after"


def test_a_damaged_superblock_of_tags(tmp_path: Path, kernel: Kernel) -> None:
    recipe = AUTHENTICATED["aes-gcm-random"]
    path = make_luks2(tmp_path / "disk", recipe, b"content".ljust(MIB))
    whole = path.read_bytes()
    chance = random.Random(6)
    said = []
    for at in range(48):
        raw = bytearray(whole)
        raw[PAYLOAD + at] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        with Opened(kernel, path) as volume:
            said.append(why_not(volume))
    # The magic; the size of a tag.
    assert said[:8] == ["it makes no sense"] * 8
    assert "integrity: " in said[11]
    # What matters only to whom writes.
    assert said[40:] == [""] * 8
    assert kernel.state == "running"


def why_not(volume: Opened) -> str:
    """Why a volume is damaged, or cannot be read; empty when it can."""
    try:
        assert volume.read(PASSPHRASE, 7) == b"content"
    except (CorruptImage, UnsupportedFeature) as error:
        check_described(error)
        return str(error.params.get("reason", error.params.get("feature")))
    except KernelError as error:
        return error.name
    return ""


@pytest.mark.parametrize(("cipher", "integrity"), [
    ("aes-gcm-random", "hmac (sha256)"), ("aes-xts-random", "crc32c x"), ("a-b-c-d", "aead"),
    ("nothing-random", "aead"), ("aes-gcm-random", "x" * 50),
])  # fmt: skip
def test_authentication_that_is_refused(
    cipher: str, integrity: str, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    recipe = AUTHENTICATED["aes-gcm-random"]
    path = make_luks2(tmp_path / "disk", recipe, b"content".ljust(MIB))
    metadata = recipe.metadata()
    metadata["segments"]["0"]["encryption"] = cipher
    metadata["segments"]["0"]["integrity"]["type"] = integrity
    write_header(path, metadata)
    assert "cipher" in check_refused(opened(path))


# ---- The two headers of version 2 --------------------------------------------------------------


@pytest.fixture(scope="module")
def template(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of version 2."""
    return make_luks2(
        tmp_path_factory.mktemp("luks") / "disk", Recipe(), b"content".ljust(64 * 1024)
    )


def check_header(path: Path, **expected: object) -> None:
    with open_image(path, "raw") as image:
        header = read_header(Window(image.read, 0, image.size), "disk")
    assert header is not None
    assert {name: getattr(header, name) for name in expected} == expected


@pytest.mark.proves("volume", "LUKS", "second header")
@pytest.mark.parametrize("at", [0, 8, 256, 448, 4096, 5000, HEADER - 1])
def test_a_damaged_first_header(
    at: int, template: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_slices(path, [(at, b"\xa5")])
    check_header(path, secondary=True, uuid=UUID)
    volume = opened(path)
    assert volume.read(PASSPHRASE, 7) == b"content"
    assert "second" in str(volume.header().facts()["header"])
    # cryptsetup mends it from the second one, which it therefore takes as well.
    mended = tmp_path / "mended"
    shutil.copy(path, mended)
    run_tool("cryptsetup", "repair", "--batch-mode", str(mended))
    check_header(mended, secondary=False, uuid=UUID)


def test_a_damaged_second_header(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_slices(path, [(HEADER + 5000, b"\xa5")])
    check_header(path, secondary=False)


def test_both_headers_damaged(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    write_slices(path, [(5000, b"\xa5"), (HEADER + 5000, b"\xa5")])
    with pytest.raises(CorruptImage, match=r"image\.corrupt") as caught:
        check_header(path)
    assert caught.value.params == {
        "path": "disk", "structure": "LUKS2 binary header", "offset": 0,
        "reason": "the checksum is wrong",
    }  # fmt: skip


@pytest.mark.proves("volume", "LUKS", "second header")
def test_the_newer_header_is_taken(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    raw = json.dumps(Recipe().metadata()).encode()
    write_slices(path, [(HEADER, binary_header(raw, HEADER, sequence=4, label=b"newer"))])
    check_header(path, secondary=True, label="newer")
    write_slices(path, [(HEADER, binary_header(raw, HEADER, sequence=2, label=b"older"))])
    check_header(path, secondary=False, label="a label")


def test_a_header_from_before_is_not_taken(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    size = 0x20000
    raw = json.dumps(Recipe().metadata()).encode()
    write_slices(path, [(size, binary_header(raw, size, size, sequence=99, label=b"before"))])
    check_header(path, secondary=False, label="a label")


@pytest.mark.parametrize("size", [0x4000 << power for power in range(9)])
def test_headers_of_every_size(size: int, tmp_path: Path) -> None:
    metadata = Recipe().metadata()
    metadata["config"]["json_size"] = str(size - 4096)
    metadata["keyslots"]["0"]["area"]["offset"] = str(2 * size)
    metadata["segments"]["0"]["offset"] = str(16 * MIB)
    raw = json.dumps(metadata).encode()
    path = make_empty(tmp_path / "disk", 17 * MIB)
    write_slices(path, [(at, binary_header(raw, at, size)) for at in (0, size)])
    assert "aes-xts-plain64" in luks_dump(path)
    check_header(path, secondary=False, size=2 * size)
    write_slices(path, [(0, bytes(4096))])
    check_header(path, secondary=True, size=2 * size)


# ---- What is secret ----------------------------------------------------------------------------


@pytest.mark.proves("volume", "LUKS", "keys reach no log, table or error")
def test_nothing_secret_is_told(
    template: Path, opened: Callable[[Path], Opened], caplog: pytest.LogCaptureFixture
) -> None:
    volume = opened(template)
    key = Recipe().key
    said = [check_wrong(volume, b"a secret typed wrong")]
    with unlock(
        volume.kernel, volume.device, volume.header(), PASSPHRASE, name=volume.name
    ) as device:
        device.read(0, 4096)
        said += [str(target) for target in (*device.table(), *device.status())]
        said += [volume.kernel.log(), caplog.text, repr(volume.header()), repr(device.__dict__)]
    for secret in (b"a secret typed wrong", PASSPHRASE, key, key[:32]):
        for text in said:
            assert secret.hex() not in text.lower()
            assert str(secret)[2:-1] not in text
    assert "logon" in said[1]


def test_the_kernel_forgets_the_keys(template: Path, opened: Callable[[Path], Opened]) -> None:
    volume = opened(template)
    with lend_key(volume.kernel, bytearray(b"secret")) as named:
        assert named.startswith(b":6:logon:explorer:")
        (line,) = (line for line in list_keys(volume.kernel) if "explorer:" in line)
        assert "logon" in line
    volume.read(PASSPHRASE, 16)
    assert not [line for line in list_keys(volume.kernel) if "explorer:" in line]


def list_keys(kernel: Kernel) -> list[str]:
    """The kernel's /proc/keys."""
    library: Any = kernel.binding.library
    descriptor = library.lkl_sys_openat(
        kernel.pointer, library.LKL_AT_FDCWD, b"/proc/keys", library.LKL_O_RDONLY, 0
    )
    kernel.check(descriptor, "openat", b"/proc/keys")
    buffer = kernel.binding.ffi.new("char[65536]")
    length = kernel.check(library.lkl_sys_read(kernel.pointer, descriptor, buffer, 65536), "read")
    kernel.close_descriptor(descriptor)
    return bytes(kernel.binding.ffi.buffer(buffer, length)).decode().splitlines()


# ---- On other things, and with a file system ---------------------------------------------------


def test_in_a_partition_with_a_file_system(
    tmp_path: Path, kernel: Kernel, unchanged: Callable[[Path], Path]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"inside")
    inner = make_empty(tmp_path / "inner", 40 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tmp_path / "tree", inner, "20M")
    encrypt_in_place(inner, *QUICK)
    path = make_empty(tmp_path / "disk", 64 * MIB)
    run_tool("sfdisk", "--quiet", path, text="label: gpt\nstart=1MiB, size=2MiB\nsize=40MiB\n")
    write_slices(path, [(3 * MIB, inner.read_bytes())])
    with open_image(unchanged(path)) as image, Stack(kernel, [image]) as stack:
        (locked,) = [volume for volume in stack.volumes() if volume.locked]
        with pytest.raises(VolumeError, match="passphrase-wrong"):
            stack.unlock(locked, WRONG)
        opened = stack.unlock(locked, PASSPHRASE)
        assert opened.content == "ext4"
        with stack.mount(opened) as mounted, mounted.mount.open_file(b"/file") as file:
            assert file.read_at(0, 100) == b"inside"


def test_writes_go_to_the_overlay(
    template: Path, kernel: Kernel, unchanged: Callable[[Path], Path]
) -> None:
    with Opened(kernel, unchanged(template), overlay=MIB) as volume:
        header = volume.header()
        with unlock(kernel, volume.device, header, PASSPHRASE, read_only=False) as device:
            write_device(device, b"changed".ljust(4096))
            assert device.read(0, 7) == b"changed"
        assert volume.read(PASSPHRASE, 7) == b"changed"


def test_a_read_only_device_cannot_be_written_to(
    template: Path, opened: Callable[[Path], Opened]
) -> None:
    volume = opened(template)
    kernel = volume.kernel
    library: Any = kernel.binding.library
    with unlock(kernel, volume.device, volume.header(), PASSPHRASE) as device:
        descriptor = device.open(read_only=False)
        written = library.lkl_sys_pwrite64(kernel.pointer, descriptor, bytes(4096), 4096, 0)
        assert kernel.make_error(-written, "pwrite64").name == "EPERM"
        kernel.close_descriptor(descriptor)


# ---- Real and hostile headers ------------------------------------------------------------------


@pytest.mark.proves("volume", "LUKS", "real images")
def test_real_headers(tmp_path: Path) -> None:
    found = [real for real in real_images() if real.file.name in ("luks1.img.xz", "luks2.img.xz")]
    if not found:
        pytest.skip("needs the real images")
    for real in found:
        with open_image(copy_of(real, tmp_path), "raw") as image:
            window = Window(image.read, 0, image.size)
            if real.file.name.startswith("luks1"):
                header = read_header(window)
                assert header is not None
                assert header.uuid == "e5f398d9-39da-4b6a-9ac3-e085a9394e7c"
                assert header.facts()["cipher"] == "aes-cbc-essiv:sha256"
            else:
                # Only the first 4 KiB are there.
                with pytest.raises(CorruptImage, match=r"image\.corrupt"):
                    read_header(window)


@pytest.mark.parametrize(
    "content", [b"", b"LUKS", b"LUKS\xba\xbe\0\3", b"SKUL\xba\xbe\0\2", bytes(1 << 16)]
)
def test_what_is_no_header(content: bytes) -> None:
    raw = content.ljust(1 << 16, b"\0")
    window = Window(lambda offset, length: raw[offset : offset + length], 0, len(raw))
    assert read_luks2(window, "") is None
    assert read_header(window) is None


def check_hostile(volume: Opened) -> bool:
    """A hostile volume is unlocked, or refused by a typed error; whether it was unlocked."""
    try:
        header = read_header(volume.window, volume.name)
        if header is None:
            return False
        header.facts()
        with unlock(volume.kernel, volume.device, header, PASSPHRASE, name=volume.name) as device:
            device.read(0, 4096)
    except (ImageError, VolumeError) as error:
        check_described(error)
        return False
    return True


EVIL: list[Any] = [
    None, True, -1, 0, 1, 2, 511, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 64) - 1, 1 << 64, 1.5,
    "", "0", "1", "512", "16384", str((1 << 64) - 512), str(1 << 64), "9" * 400, "-512", "٣",
    "x", "\0", "dynamic", [], ["0"], ["9"], [0], {}, {"0": {}}, {"0": []}, {"x": {}},
]  # fmt: skip


def places(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all members of the metadata."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from places(value, (*path, key))


PLACES = sorted(set(places(Recipe().metadata())) | {
    ("config", "requirements"), ("config", "requirements", "mandatory"), ("config", "flags"),
    ("keyslots", "0", "priority"), ("segments", "0", "flags"), ("segments", "0", "integrity"),
    ("tokens", "0"), ("tokens", "0", "type"), ("keyslots", "1"),
})  # fmt: skip


@pytest.mark.proves("volume", "LUKS", "damage gives typed errors")
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_hostile_metadata(
    place: tuple[str, ...], template: Path, tmp_path: Path, kernel: Kernel
) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    refused = 0
    for value in (*EVIL, ...):
        metadata = Recipe().metadata()
        node = metadata
        for key in place[:-1]:
            node = node.setdefault(key, {})
        if value is ...:
            node.pop(place[-1], None)
        else:
            node[place[-1]] = value
        write_header(path, metadata)
        with Opened(kernel, path) as volume:
            refused += not check_hostile(volume)
    assert refused > 10


@pytest.mark.proves("volume", "LUKS", "damage gives typed errors")
@pytest.mark.parametrize("raw", [
    b"", b"{", b"[]", b"null", b"1", b"\xff{}", b"{}", b'{"a":' * 100_000, b"[" * 200_000,
    b'{"keyslots":' + b"9" * 10_000 + b"}", b'{"a":1e999}', b'{"a":NaN}', b'{"a":"\\ud800"}',
])  # fmt: skip
def test_hostile_json(raw: bytes, tmp_path: Path, kernel: Kernel) -> None:
    size = 0x400000
    path = make_empty(tmp_path / "disk", 10 * MIB)
    write_slices(path, [(at, binary_header(raw, at, size)) for at in (0, size)])
    with Opened(kernel, path) as volume:
        assert not check_hostile(volume)


def test_overlapping_areas(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    metadata = Recipe().metadata()
    for offset, said in (
        (AREAS, "overlaps"), (AREAS + AREA - 512, "overlaps"), (PAYLOAD - 512, "not in the key"),
        (AREAS - 512, "not in the key"),
    ):  # fmt: skip
        metadata["keyslots"]["1"] = copy.deepcopy(metadata["keyslots"]["0"])
        metadata["keyslots"]["1"]["area"]["offset"] = str(offset)
        write_header(path, metadata)
        with pytest.raises(CorruptImage) as caught:
            check_header(path)
        assert said in str(caught.value.params["reason"])
        assert caught.value.params["offset"] == 4096


@pytest.mark.parametrize(("field", "value"), [
    ("size", 0), ("size", 0x4001), ("size", 0x8000), ("size", (1 << 64) - 1), ("size", 0x800000),
    ("offset", 512), ("version", 3), ("version", 1), ("algorithm", b"md5sum"), ("magic", b"LUKS"),
])  # fmt: skip
def test_hostile_binary_headers(
    field: str, value: object, template: Path, tmp_path: Path, kernel: Kernel
) -> None:
    path = tmp_path / "disk"
    shutil.copy(template, path)
    raw = json.dumps(Recipe().metadata()).encode()
    changed: dict[str, Any] = {field: value}
    write_slices(path, [(at, binary_header(raw, at, **changed)) for at in (0, HEADER)])
    with Opened(kernel, path) as volume:
        assert not check_hostile(volume)


def test_volumes_that_are_cut_off(template: Path, tmp_path: Path, kernel: Kernel) -> None:
    whole = template.read_bytes()
    path = tmp_path / "disk"
    cuts = (
        512, 592, 4096, 4608, HEADER, HEADER + 512, AREAS, AREAS + 512, AREAS + AREA // 2,
        PAYLOAD - 512, PAYLOAD, PAYLOAD + 512,
    )  # fmt: skip
    unlocked = []
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with Opened(kernel, path) as volume:
            unlocked.append(check_hostile(volume))
    assert unlocked == [False] * (len(cuts) - 1) + [True]


@pytest.mark.proves("volume", "LUKS", "damage gives typed errors")
def test_hostile_luks1(tmp_path: Path, kernel: Kernel) -> None:
    whole = make_luks1(tmp_path / "whole", PASSPHRASE).read_bytes()
    path = tmp_path / "disk"
    unlocked = 0
    chance = random.Random(7)
    # Version, payload, key bytes, iterations, and of the first slots all numbers.
    numbers = [
        6,
        104,
        108,
        164,
        *(208 + 48 * slot + at for slot in (0, 7) for at in (0, 4, 40, 44)),
    ]
    changes: list[tuple[int, bytes]] = [
        (at, struct.pack(">I", value)) for at in numbers for value in (0, 7, 0x80000000, 0xFFFFFFFF)
    ]
    # Not of iterations, which would take as long as they say.
    slow = {*range(164, 168), *(208 + 48 * slot + at for slot in range(8) for at in range(4, 8))}
    others = [at for at in range(592) if at not in slow]
    changes += [(chance.choice(others), chance.randbytes(1)) for _ in range(40)]
    changes += [(8, b"\xff" * 32), (40, bytes(32)), (72, b"sha256\n"), (72, b"x" * 32)]
    for at, change in changes:
        raw = bytearray(whole)
        raw[at : at + len(change)] = change
        path.write_bytes(raw)
        with Opened(kernel, path) as volume:
            unlocked += check_hostile(volume)
    assert 0 < unlocked < len(changes)
