# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The C code that needs no kernel: liblklnative.so, and its tests.  Included by
# liblkl/Makefile, or used alone, in the folder liblkl:
#
#	make -f native/native.mk native
#
# BUILD         folder of all results
#
# native        liblklnative.so
# native-tests  its tests: native/tests/*.c
# native-asan   the same, with address and undefined-behaviour sanitizers

BUILD ?= ../build
PYTHON ?= python3

native-build := $(abspath $(BUILD))
native-cflags := -std=gnu11 -Wall -Wextra -Werror -pthread -fPIC \
	-fvisibility=hidden -D_GNU_SOURCE= -iquote native \
	-iquote include -iquote shared -MMD -MP
native-sanitize := -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
native-libraries := -lgcrypt

native-objects := $(patsubst native/%.c,%.o,$(wildcard native/*.c))
native-programs := $(patsubst native/tests/%.c,%,$(wildcard native/tests/*.c))

NATIVE_CFLAGS ?= -O2 -g

.PHONY: native native-tests native-asan
.DELETE_ON_ERROR:
native: $(native-build)/liblklnative.so

# $(1): folder, $(2): more flags
define native-flavour
$(1)/%.o: native/%.c native/native.mk
	@mkdir -p $$(@D)
	@$$(CC) $(native-cflags) $(NATIVE_CFLAGS) $(2) -c -o $$@ $$<

$(1)/liblklnative.a: $(addprefix $(1)/,$(native-objects))
	@printf '  %-8s %s\n' NATIVE $$(subst $(native-build)/,,$$@)
	@rm -f $$@
	@$$(AR) rcs $$@ $$^

$(1)/tests/%: native/tests/%.c $(1)/liblklnative.a
	@mkdir -p $$(@D)
	@$$(CC) $(native-cflags) $(NATIVE_CFLAGS) $(2) -iquote tests -o $$@ $$< \
		$(1)/liblklnative.a $(native-libraries)

$(1)/%.d: ;
-include $(wildcard $(1)/*.d $(1)/tests/*.d)
endef

$(eval $(call native-flavour,$(native-build)/native,))
$(eval $(call native-flavour,$(native-build)/native-asan,$(native-sanitize)))

# Nothing but the functions of native.h may be seen from outside.
$(native-build)/liblklnative.so: $(native-build)/native/liblklnative.a
	@printf '  %-8s %s\n' LINK $(subst $(native-build)/,,$@)
	@$(CC) $(NATIVE_CFLAGS) -shared -pthread -Wl,-soname,liblklnative.so \
		-Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,--whole-archive $< \
		-Wl,--no-whole-archive $(native-libraries) -o $@
	@nm -D --defined-only $@ | awk '$$3 !~ /^lkn_/ { print "exported: " $$3; \
		bad = 1 } END { exit bad }'

native-tests: $(addprefix $(native-build)/native/tests/,$(native-programs))
	@$(PYTHON) tests/run.py $^

native-asan: $(addprefix $(native-build)/native-asan/tests/,$(native-programs))
	@$(PYTHON) tests/run.py $^
