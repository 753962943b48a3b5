/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder of a test program's own, beside the program, and commands run in it.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "tap.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch_folder[4096];
static pid_t scratch_owner;

/* Runs a command of the shell; shows it when it fails. */
__attribute__((format(printf, 1, 2), unused)) static bool
run(const char *format, ...)
{
	char command[8192];
	va_list arguments;
	int status;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	fflush(stdout);
	status = system(command);
	if (status != 0)
		printf("# status %d of: %s\n", status, command);
	return status == 0;
}

/* The first line that a command writes, without its newline. */
__attribute__((unused)) static const char *line_of(const char *command)
{
	static char line[4096];
	FILE *pipe = popen(command, "r");

	line[0] = '\0';
	if (pipe) {
		if (!fgets(line, sizeof(line), pipe))
			line[0] = '\0';
		pclose(pipe);
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static void scratch_remove(void)
{
	/* Children of a test that fork must not take it away. */
	if (getpid() == scratch_owner && chdir("/") == 0)
		run("rm -rf '%s'", scratch_folder);
}

/* Makes the folder, to be removed at exit, and works in it. */
__attribute__((unused)) static void scratch_begin(char **argv)
{
	snprintf(scratch_folder, sizeof(scratch_folder), "%s.XXXXXX", argv[0]);
	need(mkdtemp(scratch_folder), "a folder for this test");
	if (scratch_folder[0] != '/') {
		char *path = realpath(scratch_folder, NULL);

		need(path && strlen(path) < sizeof(scratch_folder), "its path");
		strcpy(scratch_folder, path);
		free(path);
	}
	scratch_owner = getpid();
	atexit(scratch_remove);
	need(chdir(scratch_folder) == 0, "working in it");
}

#endif
