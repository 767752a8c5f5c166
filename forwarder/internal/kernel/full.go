package kernel

// WhenFull is what the reader does while the queue is full.
type WhenFull uint8

const (
	// FullAuto acts as FullWait in the kernel's failure mode 2, and as FullDrop otherwise.
	FullAuto WhenFull = iota
	// FullWait leaves records to the kernel, whose backlog and failure mode then decide.
	FullWait
	// FullDrop receives records and drops them, counted, so that the kernel never makes
	// audited programs wait.
	FullDrop
)

// Full is a policy for a full queue.
type Full struct {
	When WhenFull
	Key  string // the configuration key that asked for it, for messages
}

// SetFull changes the policy for a full queue; any goroutine may call it.
func (l *Listener) SetFull(f Full) {
	if l.cfg.Multicast {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = f
	l.setHold()
}

// panics is the kernel's failure mode in which it stops the machine rather than
// lose a record (auditctl -f 2).
const panics = 2

// setHold decides by policy and failure mode whether the reader stops while the queue is
// full, and logs when that changes. The caller holds l.mu, or is the only one to know l.
func (l *Listener) setHold() {
	failure := l.status.Failure
	hold := l.full.When == FullWait || l.full.When == FullAuto && failure == panics
	l.holds.Store(hold)
	key := l.full.Key
	if key == "" {
		key = "queue_full_action"
	}
	say, text := l.cfg.Logger.Warn, ""
	switch {
	case hold && failure == panics:
		text = "failure mode 2: while the queue is full the kernel is not read, so that it stops this machine rather than lose a record, as auditctl -f 2 asks"
	case hold:
		text = key + ": while the queue is full the kernel is not read: audited programs wait behind its backlog, then its failure mode decides"
	case failure == panics:
		text = key + ": failure mode 2 has the kernel stop this machine rather than lose a record, but while the queue is full records are dropped here, and counted"
	case l.saidFull != "" || l.full.When == FullDrop:
		say, text = l.cfg.Logger.Info, "while the queue is full, records are dropped and counted"
	}
	if text == l.saidFull {
		return
	}
	l.saidFull = text
	say(text, "queue_bytes", l.queue.Cap(), "failure", failure, "backlog_limit", l.status.BacklogLimit)
}

// resumed ends the state in which the reader stopped for a full queue. The kernel may have
// dropped the registration meanwhile.
func (l *Listener) resumed() {
	if l.holding.Load() {
		l.holding.Store(false)
		l.nudge.Set()
	}
}
