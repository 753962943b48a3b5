// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Process 1.
 *
 * The kernel starts by executing /init.  Ours is a file of a format of its own
 * that has no code: the exec makes process 1 an ordinary process, and
 * where another architecture would go to user mode, its thread goes to
 * lkl_process_one().
 */
#include <linux/binfmts.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/string.h>

static const char magic[] = "LKL\n";

static int load_init(struct linux_binprm *bprm)
{
	int error;

	if (memcmp(bprm->buf, magic, sizeof(magic) - 1))
		return -ENOEXEC;
	error = begin_new_exec(bprm);
	if (error)
		return error;
	setup_new_exec(bprm);
	finalize_exec(bprm);
	return 0;
}

static struct linux_binfmt format = {
	.load_binary = load_init,
};

static int __init make_init(void)
{
	struct file *file = filp_open("/init", O_CREAT | O_WRONLY, 0700);
	ssize_t written;
	loff_t pos = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	written = kernel_write(file, magic, sizeof(magic) - 1, &pos);
	/* Not fput(): a file still open for writing cannot be executed. */
	__fput_sync(file);
	if (written != sizeof(magic) - 1)
		return -EIO;
	register_binfmt(&format);
	return 0;
}
device_initcall(make_init);
