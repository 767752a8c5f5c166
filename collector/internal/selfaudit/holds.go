package selfaudit

import "time"

// Hold records that something was put on hold, or taken off: op is add or remove, by has the fields
// that say who did it. stored is told whether the record was stored, unless it was not even queued.
func (r *Records) Hold(op, what, reason, by string, at time.Time, stored func(yes bool)) (queued bool) {
	text := "op=hold-" + op + " hold=" + encodeName(what)
	if reason != "" {
		text += " reason=" + encodeName(reason)
	}
	if by == "" {
		by = asker
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addHeard(stored, "DAEMON_CONFIG", "%s at=%d.%03d %s res=success", text, at.Unix(), at.Nanosecond()/1e6, by) != 0
}
