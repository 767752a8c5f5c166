package madeday

import "time"

// quiet reports whether nearly nothing happens on the host: at night, on most.
func (h *Host) quiet(minute int) bool {
	at := minute * 24 * 60 / max(h.cfg.Minutes, 1) // of a day, however short it is
	if h.cfg.Minutes > 24*60 {
		at = (minute + 4*60) % (24 * 60) // of each day, from one o'clock on
	}
	return h.rate%3 != 0 && at > 300 && at < 640
}

// makePlan draws what happens on the host, and when.
func (h *Host) makePlan() {
	all := []func(minute int) int{h.planReboot, h.planNight, h.planRules, h.planRotation, h.planRestart, h.planStep, h.planCut, h.planQuick}
	for minute := 3 + h.rnd.IntN(30); minute < h.cfg.Minutes-20; minute += 4 + h.rnd.IntN(60) {
		minute += all[h.rnd.IntN(len(all))](minute)
	}
}

func (h *Host) planReboot(minute int) int {
	takes := 1 + h.rnd.IntN(5)
	h.plan[minute] = func(time.Time) { h.leave(minute, takes) }
	return takes
}

// leave shuts the host down, where the collector hears of it.
func (h *Host) leave(minute, takes int) {
	if h.up && h.cut <= minute {
		h.shutDown(minute + takes)
	}
}

// planQuick is a reboot of seconds, as of a virtual machine.
func (h *Host) planQuick(minute int) int {
	h.plan[minute] = func(time.Time) {
		h.shutDown(minute)
		h.pass(9000)
		h.start()
	}
	return 0
}

// planNight is a host that is off for hours.
func (h *Host) planNight(minute int) int {
	if h.rnd.IntN(3) > 0 {
		return 0
	}
	takes := min(60+h.rnd.IntN(400), h.cfg.Minutes-30-minute)
	if takes < 1 {
		return 0
	}
	h.plan[minute] = func(time.Time) { h.leave(minute, takes) }
	return takes
}

func (h *Host) planRules(minute int) int {
	h.plan[minute] = func(time.Time) { h.loadRules(false) }
	return 0
}

func (h *Host) planRotation(minute int) int {
	h.plan[minute] = func(time.Time) {
		h.ownRecord("DAEMON_ROTATE op=rotate-logs auid=0 uid=0 ses=2 pid=1 subj=unconfined res=success")
	}
	return 0
}

func (h *Host) planRestart(minute int) int {
	h.plan[minute] = func(time.Time) {
		h.stopDaemon()
		h.pass(15_000)
		if h.keeps {
			h.get(h.work())
		}
		h.startDaemon()
	}
	return 0
}

// planStep is the time service that sets the clock by a little.
func (h *Host) planStep(minute int) int {
	h.plan[minute] = func(time.Time) {
		h.skew = time.Duration(h.rnd.IntN(30_000)-15_000) * time.Millisecond
		if h.cfg.Leaps && h.rnd.IntN(4) == 0 {
			h.leap()
		}
	}
	return 0
}

// leap has the clock be wrong by up to two hours, and put right some minutes later.
func (h *Host) leap() {
	h.skew = time.Duration(h.rnd.IntN(4*3600)-2*3600) * time.Second
	h.wrong = 1 + h.rnd.IntN(40)
}

// planCut cuts the link for some minutes: what is made meanwhile comes later.
func (h *Host) planCut(minute int) int {
	takes := 1 + h.rnd.IntN(12)
	h.plan[minute] = func(time.Time) {
		// With a collector that is stopped between two cuts nobody would hear of the host for long.
		if h.up && (h.cut == 0 || minute > h.cut+60) {
			h.cut = minute + takes
		}
	}
	return takes
}
