# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Generate the system-call functions and the errno tables of liblkl.

lkl.h declares one `lkl_sys_*` function per system call.  Everything else about
them is the kernel's: this program reads the call numbers from the kernel
source's `include/uapi/asm-generic/unistd.h` (preprocessed as a 64-bit
architecture sees it), compares each declaration with the kernel's own prototype
in `include/linux/syscalls.h`, and writes into the folder of `--out`:

    syscalls.c         the functions
    syscall_numbers.h  LKL_NR_* of each
    errno.c            lkl_errno_name and lkl_strerror

A declaration that does not fit the kernel stops the build with its name.
It runs on the build machine only and needs a C compiler (`--cc`).
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

BANNER = "/* Made by liblkl/host/syscalls.py from lkl.h and the kernel source. */\n"
SIGNED = frozenset({"int", "int32_t", "int64_t"})
UNSIGNED = frozenset({"uint32_t", "uint64_t", "size_t"})
ERRNO_HEADERS = (
    "include/uapi/asm-generic/errno-base.h",
    "include/uapi/asm-generic/errno.h",
    "include/linux/errno.h",  # some reach the caller all the same, as ENOTSUPP does
)


class MismatchError(Exception):
    """lkl.h and the kernel source do not agree; the text names where."""


class Parameter(NamedTuple):
    """One parameter: its C text, its type (an array's is a pointer) and its name."""

    text: str
    type: str
    name: str

    @property
    def is_pointer(self) -> bool:
        """Whether the argument is an address."""
        return self.type.endswith("*")


class Call(NamedTuple):
    """One `lkl_sys_*` declaration, without its kernel parameter."""

    name: str
    parameters: tuple[Parameter, ...]


class KernelCall(NamedTuple):
    """A row of the kernel's table: number and the function behind it."""

    number: int
    function: str


def without_comments(text: str) -> str:
    """C text with its comments taken out."""
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def split_parameters(text: str) -> list[str]:
    """The parameters of a prototype, each with single blanks."""
    parts = [" ".join(part.split()) for part in text.split(",")]
    return [] if parts in (["void"], [""]) else parts


def parse_parameter(call: str, text: str) -> Parameter:
    """Type and name of one parameter of lkl.h, whose width must be known."""
    match = re.fullmatch(r"(?P<type>.*?)(?P<name>\w+)(?P<array>\[\d+\])?", text)
    if match is None:
        raise MismatchError(f"lkl.h: {call}: cannot read parameter '{text}'")
    type_ = match["type"].strip() + (" *" if match["array"] else "")
    if not type_.endswith("*") and type_ not in SIGNED | UNSIGNED:
        raise MismatchError(f"lkl.h: {call}: parameter '{text}' has no known width")
    return Parameter(text, type_, match["name"])


def parse_header(text: str) -> list[Call]:
    """The `lkl_sys_*` declarations of lkl.h, in their order."""
    calls = []
    pattern = r"\bint64_t\s+(lkl_sys_(\w+))\s*\(([^)]*)\)\s*;"
    for function, name, parameters in re.findall(pattern, without_comments(text)):
        first, *others = split_parameters(parameters)
        if first != "struct lkl_kernel *kernel":
            raise MismatchError(f"lkl.h: {function}: the first parameter is not the kernel")
        calls.append(Call(name, tuple(parse_parameter(function, other) for other in others)))
    if not calls:
        raise MismatchError("lkl.h: no lkl_sys_* declaration found")
    return calls


def read_table(source: Path, compiler: list[str]) -> dict[str, KernelCall]:
    """The kernel's system calls by name, as a 64-bit architecture has them."""
    unistd = source / "include/uapi/asm-generic/unistd.h"
    names = re.findall(r"^#define __NR(?:3264)?_(\w+)", unistd.read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        # unistd.h asks the architecture for its width: answer without the host's headers.
        (Path(folder) / "asm").mkdir()
        (Path(folder) / "asm/bitsperlong.h").write_text("#define __BITS_PER_LONG 64\n")
        rows = "".join(f"name {name} __NR_{name}\n" for name in dict.fromkeys(names))
        program = (
            "#define __SYSCALL(number, function) row number function\n"
            f'#include "{unistd.resolve()}"\n{rows}'
        )
        command = [*compiler, "-E", "-P", "-nostdinc", f"-I{folder}", "-xc", "-"]
        text = subprocess.run(
            command, input=program, check=True, capture_output=True, text=True
        ).stdout
    functions = {int(number): name for number, name in re.findall(r"row (\d+) (\w+)", text)}
    table = {}
    for name, number in re.findall(r"name (\w+) (\d+)\b", text):
        if int(number) in functions:
            table[name] = KernelCall(int(number), functions[int(number)])
    return table


def read_prototypes(source: Path) -> dict[str, list[str]]:
    """The parameters of each `sys_*` function of the kernel."""
    text = without_comments((source / "include/linux/syscalls.h").read_text())
    pattern = r"asmlinkage\s+\w+\s+(sys_\w+)\s*\(([^()]*)\)\s*;"
    return {
        function: split_parameters(parameters) for function, parameters in re.findall(pattern, text)
    }


def check(call: Call, table: dict[str, KernelCall], prototypes: dict[str, list[str]]) -> int:
    """The number of a call whose declaration fits the kernel's prototype."""
    if call.name not in table:
        raise MismatchError(f"lkl_sys_{call.name}: asm-generic/unistd.h has no such system call")
    number, function = table[call.name]
    if function not in prototypes:
        raise MismatchError(f"lkl_sys_{call.name}: linux/syscalls.h does not declare {function}")
    theirs = prototypes[function]
    if len(theirs) != len(call.parameters):
        raise MismatchError(
            f"lkl_sys_{call.name}: lkl.h gives {len(call.parameters)} arguments, "
            f"{function} of the kernel takes {len(theirs)}"
        )
    for parameter, other in zip(call.parameters, theirs, strict=True):
        # ioctl's last argument is an unsigned long that mostly carries a pointer.
        fits = "*" in other or (parameter.is_pointer and other.startswith("unsigned long "))
        if fits != parameter.is_pointer:
            raise MismatchError(
                f"lkl_sys_{call.name}: '{parameter.text}' of lkl.h "
                f"is '{other}' of {function} in the kernel"
            )
    return number


def widen(parameter: Parameter) -> str:
    """The C expression that makes a 64-bit argument: by sign, by zeros, or a pointer."""
    if parameter.is_pointer:
        return f"(int64_t)(uintptr_t){parameter.name}"
    if parameter.type in SIGNED:
        return f"(int64_t){parameter.name}"
    return f"(int64_t)(uint64_t){parameter.name}"


def emit_call(call: Call) -> str:
    """The C function of a call."""
    declared = ["struct lkl_kernel *kernel"]
    declared += [parameter.text for parameter in call.parameters]
    values = ", ".join(widen(parameter) for parameter in call.parameters) or "0"
    return (
        f"\nint64_t lkl_sys_{call.name}({', '.join(declared)})\n"
        "{\n"
        f"\tconst int64_t arguments[6] = {{ {values} }};\n\n"
        f"\treturn lkl_syscall(kernel, LKL_NR_{call.name}, arguments);\n"
        "}\n"
    )


def read_errors(source: Path) -> list[tuple[int, str, str]]:
    """Number, name and text of each error, from the kernel's own comments."""
    errors = []
    for header in ERRNO_HEADERS:
        pattern = r"^#define[ \t]+(E\w+)[ \t]+(\d+)[ \t]*(?:/\*\s*(.*?)\s*\*/)?"
        for name, number, text in re.findall(pattern, (source / header).read_text(), re.MULTILINE):
            errors.append((int(number), name, text or name))
    if len(errors) < 100 or len({number for number, _, _ in errors}) != len(errors):
        raise MismatchError("asm-generic/errno*.h: not the list of errors expected")
    return errors


def emit_errors(errors: list[tuple[int, str, str]]) -> str:
    """The C file of the errno tables."""

    def table(function: str, column: int, success: str, unknown: str) -> str:
        rows = [(0, success, success), *errors]
        cases = "".join(
            f"\tcase {row[0]}:\n\t\treturn {c_string(str(row[column]))};\n" for row in rows
        )
        # Without a negation: INT_MIN has no positive counterpart.
        return (
            f"\nconst char *{function}(int error)\n{{\n"
            f"\tswitch (error < 0 ? 0u - (unsigned int)error : (unsigned int)error) {{\n{cases}"
            f"\tdefault:\n\t\treturn {c_string(unknown)};\n\t}}\n}}\n"
        )

    return (
        f'{BANNER}#include "lkl.h"\n'
        + table("lkl_errno_name", 1, "OK", "EUNKNOWN")
        + table("lkl_strerror", 2, "Success", "Unknown error")
    )


def c_string(text: str) -> str:
    """A C string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> int:
    """Exit status: 0, or 1 when lkl.h and the kernel do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="Linux source tree")
    parser.add_argument("--header", type=Path, required=True, help="path of lkl.h")
    parser.add_argument("--out", type=Path, required=True, help="path of syscalls.c to write")
    parser.add_argument("--cc", default="cc", help="C compiler, for its preprocessor")
    options = parser.parse_args()
    try:
        calls = parse_header(options.header.read_text())
        table = read_table(options.source, shlex.split(options.cc))
        prototypes = read_prototypes(options.source)
        numbers = {call.name: check(call, table, prototypes) for call in calls}
        errors = read_errors(options.source)
    except MismatchError as error:
        print(f"syscalls.py: {error}", file=sys.stderr)
        return 1
    folder: Path = options.out.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "syscall_numbers.h").write_text(
        BANNER + "".join(f"#define LKL_NR_{name} {number}\n" for name, number in numbers.items())
    )
    options.out.write_text(
        f'{BANNER}#include "lkl.h"\n#include "syscall_numbers.h"\n'
        + "".join(emit_call(call) for call in calls)
    )
    (folder / "errno.c").write_text(emit_errors(errors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
