/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Confinement on Windows, where a process cannot give up its rights by itself:
 * its parent starts it without them.  Written, and checked by a compiler, but
 * not yet run on Windows; no part of the build for Linux.
 */
#ifndef LKL_CONFINE_WINDOWS_H
#define LKL_CONFINE_WINDOWS_H

#include <stdint.h>
#include <windows.h>

struct lkn_started {
	HANDLE process;
	HANDLE job; /* when its last handle is closed, the process is killed */
	DWORD id;
};

/*
 * Starts a program that reads images: with a restricted token (no privilege,
 * all groups for denial only), at low integrity (it can change nothing of the
 * user's), in a job (one process, so many bytes of memory, no clipboard, no
 * desktop but its own, killed with its parent), and with these handles alone,
 * which must be inheritable.  standard are its input, output and errors, and
 * among the handles.  Returns 0 or a negative error of Windows.
 *
 * Its first thread can read what the user's groups can, to load libraries,
 * until it calls lkn_drop_rights(): before the first byte of an image.
 */
int lkn_start_confined(const wchar_t *program, wchar_t *command,
		       const HANDLE *handles, DWORD count,
		       const HANDLE standard[3], uint64_t memory,
		       struct lkn_started *started);
int lkn_drop_rights(void);

#endif
