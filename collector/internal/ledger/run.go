package ledger

// statusAge is how old, in milliseconds, what a statement says of the kernel may be: forwarders ask
// it every ten seconds.
const statusAge = 15_000

// mostHanded is more records than any host makes between two statements.
const mostHanded = 1 << 40

// state takes a statement: it closes the time since the one before it, and compares what was
// handed on with what has come.
func (h *Host) state(s *statement, sender uint64, received int64) {
	was := h.run
	next := run{statement: *s, Sender: sender, Received: 1}
	switch {
	case s.Last > received+newest || s.First < received-oldest:
		return // a clock that nobody can go by
	case s.Run == was.Run && s.N <= was.N:
		return // it came again
	case s.Run == was.Run:
		next.Owed, next.Told, next.Said, next.Unsaid, next.Else = was.Owed, was.Told, was.Said, was.Unsaid, was.Else
		next.Upto = was.Upto
		h.compare(&was, &next, received)
	case s.N == 1:
		next.Said = was.Since // what a start says of losses comes before the first statement
		if was.Run != "" {
			h.between(&was, s, received)
		}
	default:
		next.Unsaid = s.Lost // whatever it was, it was said where the run was heard before
	}
	next.Ended = s.ends
	first, last := s.First, believed(s.Last, received)
	if s.Run != was.Run {
		next.Upto = believed(s.First, received) // what was before is between's
	}
	if s.Run == was.Run && sender == was.Sender {
		first = min(first, was.Last) // statements between the two are missing: the numbers speak of their time, too
		if s.Last < was.Last && was.Upto > 0 {
			first = min(first, was.Upto) // its clock was ahead: there was no such time
		}
	}
	if first < last {
		next.Upto = max(next.Upto, last)
	}
	h.run = next
	// No forwarder of ours speaks of days at once.
	h.stated(max(first, s.Last-Day), last, received)
	if s.Kernel && s.Enabled && s.First-h.off > statusAge {
		h.on(s.First, received)
	}
	switch {
	case s.Kernel && !s.Enabled:
		h.enter(AuditingOff, s.First, s.Last, 0, received)
	case s.Kernel && !s.Registered && !s.Multicast:
		h.enter(NotRegistered, s.First, s.Last, 0, received)
	}
}

// compare finds records that were handed on between two statements of a run and did not come
// from its sender. A sender in clear text that has another address now is not compared.
func (h *Host) compare(was, next *run, received int64) {
	if was.Sender != next.Sender {
		return
	}
	handed, dropped := int64(next.Records-was.Records), int64(next.Dropped-was.Dropped)
	if handed < 0 || dropped < 0 || handed > mostHanded || dropped > mostHanded {
		return // no forwarder of ours counts back, or so many
	}
	// What a spool dropped may have been handed on before the statement before, so it is
	// summed up over the run.
	received1 := int64(was.Received - 1) // the statement that has just come is in it
	next.Owed += handed - dropped - received1
	next.Else = max(0, next.Else+elsewhere(was.Acked, next.Acked, received1))
	if n := min(next.Else, next.Owed-next.Told); n > 0 {
		h.enter(OtherCollector, was.Last, next.First, uint64(n), received)
		next.Told, next.Else = next.Told+n, next.Else-n
	}
	// These may have been dropped since, or got by another collector: later statements say it.
	held := int64(min(next.Unsent, 1<<40))
	if next.Owed-held > next.Told {
		h.enter(NotReceived, was.Last, next.First, uint64(next.Owed-held-next.Told), received)
		next.Told = next.Owed - held
	}
	// Losses whose own records were lost: by this statement those of the one before are said.
	if total := was.Lost; total <= mostHanded && total > AddUp(next.Said, next.Unsaid) {
		h.enter(OtherLoss, was.First, was.Last, total-next.Said-next.Unsaid, received)
		next.Unsaid = total - next.Said
	}
}

// elsewhere returns how many records collectors other than this one have acknowledged between two
// statements. Nobody says which of a host's collectors this one is: it is the one that
// acknowledged as many as came here.
func elsewhere(was, now []uint64, mine int64) int64 {
	if len(now) < 2 {
		return 0
	}
	sum, own, near := int64(0), int64(0), int64(-1)
	for i, n := range now {
		if i < len(was) {
			n -= min(n, was[i])
		}
		d := int64(min(n, 1<<40))
		sum += d
		if far := max(d-mine, mine-d); near < 0 || far < near {
			own, near = d, far
		}
	}
	return sum - own
}

// between judges the time between two runs of a host's forwarder.
func (h *Host) between(was *run, s *statement, received int64) {
	from, to := was.Last, believed(s.First, received)
	if was.Upto > 0 {
		from = min(from, was.Upto) // a clock may be ahead by hours
	}
	if from >= to {
		return
	}
	sameBoot := was.Boot != "" && was.Boot == s.Boot
	switch {
	case !sameBoot && was.Ended:
		h.enter(Off, from, to, 0, received)
	case !sameBoot:
		h.enter(Died, from, to, 0, received)
	case s.file: // the log was there all the while
		h.stated(from, to, received)
	case s.Kernel && !s.found:
		h.enter(AuditingOff, from, to, 0, received)
	case !was.Ended:
		h.enter(Died, from, to, 0, received)
	case s.Kernel && !s.Multicast && !was.Registered: // another daemon took its place
		h.enter(NotRegistered, from, to, 0, received)
	default: // by the serials it is seen whether the kernel made or kept anything
		h.enter(Stopped, from, to, 0, received)
	}
}
