/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_IMAGE_H
#define TINY_IMAGE_H

#include "../shared/lkl_image.h"

#define TINY_RELEASE "0.0.1-tiny"

enum {
	TINY_COUNT,	 /* how often it was asked */
	TINY_POINTED,	 /* (n): 11, 22, or the count */
	TINY_ZEROS,	 /* the size of its unset data, or -1 if some is set */
	TINY_WRITE,	 /* (address): writes there */
	TINY_JUMP,	 /* (address): calls it */
	TINY_ILLEGAL,	 /* runs into an illegal instruction */
	TINY_OVERFLOW,	 /* uses up the stack */
	TINY_FAULT_KIND, /* of the last fault */
	TINY_FAULT_IP,
	TINY_FAULT_ADDRESS,
};

#define TINY_FAULTED (-1000)

#endif
