"""Becomes user-mode-linux: ``kernel.py linux.uml ARGUMENTS``, on processors that it was not made for as well.

Its 6.1 keeps the registers of a guest's process in a buffer that has no room for those of AMX, and panics as soon as it
writes them back. Where the host says that it cannot tell these registers, it keeps to the old ones. So on a processor with
AMX a filter answers that one request with an error. The upper halves of AVX registers then stay where they are: a thread
could find those of another thread, or of a signal handler. Nothing but the C library uses them in a guest, and it is told not to.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_PTRACE, _GETREGSET, _NT_X86_XSTATE, _EINVAL = 101, 0x4204, 0x202, 22
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _REQUEST, _ADDRESS = 0, 16, 32  # where struct seccomp_data has them
WITHOUT_AVX = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX_Fast_Unaligned_Load"


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def refuse_extended_registers() -> None:
    """From now on ptrace(PTRACE_GETREGSET, …, NT_X86_XSTATE) fails in this process and in all that it starts."""
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_IF_EQUAL, 0, 5, _PTRACE),
            (_LOAD, 0, 0, _REQUEST),
            (_JUMP_IF_EQUAL, 0, 3, _GETREGSET),
            (_LOAD, 0, 0, _ADDRESS),
            (_JUMP_IF_EQUAL, 0, 1, _NT_X86_XSTATE),
            (_RETURN, 0, 0, _ERROR | _EINVAL),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp is refused here")


def main() -> None:
    """Become the program."""
    argv = sys.argv[1:]
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        if "amx_tile" in file.read():
            refuse_extended_registers()
            argv.insert(1, WITHOUT_AVX)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
