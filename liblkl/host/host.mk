# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The host side: liblkl.so, and the tests of liblkl.  Included by
# liblkl/Makefile, or used alone, in the folder liblkl:
#
#	make -f host/host.mk LINUX=<Linux source tree> host-tests
#
# BUILD   folder of all results
# LINUX   prepared source tree of Linux; the numbers of system calls and errors
#         are read from it
#
# host        liblkl.so
# host-tests  tests that need no kernel image: tests/host_*.c
# host-asan   the same, with address and undefined-behaviour sanitizers
# check       host-tests, then all tests on $(BUILD)/lkl-kernel.so
# check-asan  the same, with sanitizers

BUILD ?= ../build
PYTHON ?= python3

host-build := $(abspath $(BUILD))
host-generated := $(host-build)/generated
host-kernel := $(host-build)/lkl-kernel.so

HOST_CFLAGS ?= -O2 -g
host-cflags := -std=gnu11 -Wall -Wextra -Werror -pthread -fPIC \
	-fvisibility=hidden -Iinclude -iquote host -I$(host-generated) -MMD -MP
host-sanitize := -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer

host-sources := $(filter-out host/windows.c,$(wildcard host/*.c))
host-objects := $(patsubst host/%.c,%.o,$(host-sources)) syscalls.o errno.o
host-only-tests := $(patsubst tests/%.c,%,$(wildcard tests/host_*.c))
host-kernel-tests := $(filter-out $(host-only-tests) tiny_image, \
	$(patsubst tests/%.c,%,$(wildcard tests/*.c)))

# $(1): a stage's name, $(2): what it makes
host-say = @printf '  %-8s %s\n' $(1) '$(subst $(host-build)/,,$(2))'

.PHONY: host host-tests host-asan check check-asan host-clean
.DELETE_ON_ERROR:
host: $(host-build)/liblkl.so

# ---- What is made from the kernel's source ----------------------------------

$(host-generated)/.made: host/syscalls.py include/lkl.h
	$(call host-say,GENERATE,$(host-generated))
	@test -n "$(LINUX)" || { echo 'LINUX: no source tree given' >&2; exit 1; }
	@mkdir -p $(@D)
	@$(PYTHON) host/syscalls.py --source $(LINUX) --header include/lkl.h \
		--out $(@D)/syscalls.c --cc '$(CC)'
	@touch $@

# ---- Objects, once as they are and once with sanitizers ---------------------

# $(1): folder, $(2): more flags
define host-flavour
$(1)/%.o: host/%.c $(host-generated)/.made host/host.mk
	@mkdir -p $$(@D)
	@$$(CC) $(host-cflags) $(HOST_CFLAGS) $(2) -c -o $$@ $$<

$(1)/%.o: $(host-generated)/.made host/host.mk
	@mkdir -p $$(@D)
	@$$(CC) $(host-cflags) $(HOST_CFLAGS) $(2) -c -o $$@ $(host-generated)/$$*.c

$(1)/liblkl.a: $(addprefix $(1)/,$(host-objects))
	$$(call host-say,HOST,$$@)
	@rm -f $$@
	@$$(AR) rcs $$@ $$^

# Tests may use all that the host's C library has.
$(1)/tests/%: tests/%.c $(1)/liblkl.a $(host-build)/host/tests/tiny_image.so
	@mkdir -p $$(@D)
	@$$(CC) $(host-cflags) $(HOST_CFLAGS) $(2) -D_GNU_SOURCE= \
		-DTINY_IMAGE='"$(host-build)/host/tests/tiny_image.so"' \
		-o $$@ $$< $(1)/liblkl.a -ldl

# The compiler writes these; make must not look for a way to.
$(1)/%.d: ;
-include $(wildcard $(1)/*.d $(1)/tests/*.d)
endef

$(eval $(call host-flavour,$(host-build)/host,))
$(eval $(call host-flavour,$(host-build)/host-asan,$(host-sanitize)))

# ---- The library ------------------------------------------------------------

# Nothing but the functions of lkl.h may be seen from outside.
$(host-build)/liblkl.so: $(host-build)/host/liblkl.a
	$(call host-say,LINK,$@)
	@$(CC) $(HOST_CFLAGS) -shared -pthread -Wl,-soname,liblkl.so \
		-Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,--whole-archive $< \
		-Wl,--no-whole-archive -ldl -o $@
	@nm -D --defined-only $@ | awk '$$3 !~ /^lkl_/ { print "exported: " $$3; \
		bad = 1 } END { exit bad }'

# ---- Tests ------------------------------------------------------------------

# A freestanding object of the kernel image's kind, for tests of the loader.
$(host-build)/host/tests/tiny_image.so: tests/tiny_image.c shared/lkl_image.h
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O1 -Wall -Wextra -Werror -ffreestanding -nostdlib -fPIC \
		-fvisibility=hidden -fno-stack-protector -mno-red-zone -shared \
		-fno-asynchronous-unwind-tables -Wl,-Bsymbolic -Wl,-z,text \
		-Wl,-z,norelro -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 \
		-Wl,--hash-style=sysv -Wl,--build-id=none -o $@ $<

# $(1): folder of the flavour, $(2): tests
host-programs = $(addprefix $(1)/tests/,$(2))

host-run = @$(PYTHON) tests/run.py

host-tests: $(call host-programs,$(host-build)/host,$(host-only-tests))
	$(call host-say,TEST,$(words $^) programs)
	$(host-run) $^

host-asan: $(call host-programs,$(host-build)/host-asan,$(host-only-tests))
	$(call host-say,TEST,$(words $^) programs with sanitizers)
	$(host-run) $^

check: host-tests \
	$(call host-programs,$(host-build)/host,$(host-kernel-tests)) $(host-kernel)
	$(host-run) --kernel $(host-kernel) \
		$(call host-programs,$(host-build)/host,$(host-kernel-tests))

check-asan: host-asan \
	$(call host-programs,$(host-build)/host-asan,$(host-kernel-tests)) \
	$(host-kernel)
	$(host-run) --kernel $(host-kernel) \
		$(call host-programs,$(host-build)/host-asan,$(host-kernel-tests))

host-clean:
	@rm -rf $(host-build)/host $(host-build)/host-asan $(host-generated) \
		$(host-build)/liblkl.so
