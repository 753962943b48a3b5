# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Extended attributes of standard meaning, as text."""

from __future__ import annotations

from struct import Struct, error

_ACL_VERSION = 2
_ACL_ENTRY = Struct("<HHI")
# include/uapi/linux/posix_acl.h; acl(5) has the words.
_ACL_TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
_ACL_NAMED = (0x02, 0x08)

_CAPABILITY_HEAD = Struct("<I")
_CAPABILITY_WORDS = Struct("<II")
_CAPABILITY_ROOT = Struct("<I")
_CAPABILITY_EFFECTIVE = 0x000001
_CAPABILITY_VERSIONS = {0x01000000: 1, 0x02000000: 2, 0x03000000: 2}
"""Revision, and how many pairs of words (permitted, inheritable) follow."""
_CAPABILITY_NAMESPACED = 0x03000000
# include/uapi/linux/capability.h, in the order of their numbers
_CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip


def describe_attribute(name: bytes, value: bytes) -> str | None:
    """What an attribute says; None where its meaning is not known, or the value breaks its rules.

    ACLs as ``getfacl --omit-header`` in one line, capabilities as ``getcap``, labels of SELinux and
    text of users as they are.
    """
    try:
        if name in (b"system.posix_acl_access", b"system.posix_acl_default"):
            return _describe_acl(value)
        if name == b"security.capability":
            return _describe_capabilities(value)
        if name == b"security.selinux":
            return _describe_text(value.removesuffix(b"\0"))
        if name.startswith((b"user.", b"trusted.")):
            return _describe_text(value)
    except (ValueError, error, KeyError):
        return None
    return None


def _describe_text(value: bytes) -> str | None:
    text = value.decode("utf-8")
    return text if text.isprintable() else None


def _describe_acl(value: bytes) -> str:
    if int.from_bytes(value[:4], "little") != _ACL_VERSION or len(value) < 4:
        raise ValueError("another version")
    entries = []
    for tag, bits, number in _ACL_ENTRY.iter_unpack(value[4:]):
        if bits > 7:
            raise ValueError("permissions that are none")
        who = str(number) if tag in _ACL_NAMED else ""
        rights = "".join(
            letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))
        )
        entries.append(f"{_ACL_TAGS[tag]}:{who}:{rights}")
    return ",".join(entries)


def _describe_capabilities(value: bytes) -> str:
    (head,) = _CAPABILITY_HEAD.unpack_from(value)
    version = head & 0xFF000000
    pairs = _CAPABILITY_VERSIONS[version]
    size = _CAPABILITY_HEAD.size + pairs * _CAPABILITY_WORDS.size
    rooted = version == _CAPABILITY_NAMESPACED
    if len(value) != size + rooted * _CAPABILITY_ROOT.size:
        raise ValueError("a wrong size")
    permitted = inheritable = 0
    for pair in range(pairs):
        at = _CAPABILITY_HEAD.size + pair * _CAPABILITY_WORDS.size
        words = _CAPABILITY_WORDS.unpack_from(value, at)
        permitted |= words[0] << 32 * pair
        inheritable |= words[1] << 32 * pair
    effective = permitted | inheritable if head & _CAPABILITY_EFFECTIVE else 0
    groups: dict[str, list[str]] = {}
    for number in range(64):
        flags = "".join(
            letter
            for letter, held in (("e", effective), ("i", inheritable), ("p", permitted))
            if held >> number & 1
        )
        if flags:
            known = number < len(_CAPABILITIES)
            word = f"cap_{_CAPABILITIES[number]}" if known else str(number)
            groups.setdefault(flags, []).append(word)
    text = " ".join(f"{','.join(words)}={flags}" for flags, words in groups.items()) or "="
    if rooted:
        text += f" [rootid={_CAPABILITY_ROOT.unpack_from(value, size)[0]}]"
    return text
