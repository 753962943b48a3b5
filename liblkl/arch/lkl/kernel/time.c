// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/clockchips.h>
#include <linux/clocksource.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/sched/clock.h>
#include <linux/timekeeping.h>
#include <asm/lkl.h>

/* The host's clocks count nanoseconds, and so do ours. */
static u64 lkl_clock_read(struct clocksource *cs)
{
	return lkl_host(time_mono);
}

static struct clocksource lkl_clock = {
	.name = "lkl",
	.rating = 400,
	.read = lkl_clock_read,
	.mask = CLOCKSOURCE_MASK(64),
	.flags = CLOCK_SOURCE_IS_CONTINUOUS,
};

unsigned long long sched_clock(void)
{
	return lkl_ops ? lkl_host(time_mono) : 0;
}

cycles_t get_cycles(void)
{
	return lkl_host(time_mono);
}

void read_persistent_clock64(struct timespec64 *ts)
{
	*ts = ns_to_timespec64(lkl_host(time_real));
}

static int lkl_timer_next(unsigned long delta, struct clock_event_device *dev)
{
	u64 now = lkl_host(time_mono);

	lkl_host(timer_set, now + delta);
	return 0;
}

static struct clock_event_device lkl_timer = {
	.name = "lkl",
	.rating = 400,
	.features = CLOCK_EVT_FEAT_ONESHOT,
	.set_next_event = lkl_timer_next,
	.irq = LKL_IRQ_TIMER,
};

static irqreturn_t lkl_timer_irq(int irq, void *dev)
{
	lkl_timer.event_handler(&lkl_timer);
	return IRQ_HANDLED;
}

void __init time_init(void)
{
	clocksource_register_hz(&lkl_clock, NSEC_PER_SEC);
	if (request_irq(LKL_IRQ_TIMER, lkl_timer_irq, IRQF_TIMER | IRQF_NOBALANCING,
			"timer", NULL))
		panic("lkl: no timer interrupt");
	lkl_timer.cpumask = cpumask_of(0);
	clockevents_config_and_register(&lkl_timer, NSEC_PER_SEC, 1, ULONG_MAX);
}

/* Nothing here waits for hardware: a delay is time given to the host. */
void __ndelay(unsigned long nsecs)
{
	u64 end = lkl_host(time_mono) + nsecs;

	while (lkl_host(time_mono) < end)
		cpu_relax();
}
EXPORT_SYMBOL(__ndelay);

void calibrate_delay(void)
{
	/* udelay() asks the clock. */
	loops_per_jiffy = NSEC_PER_SEC / HZ;
}
