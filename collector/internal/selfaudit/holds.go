package selfaudit

import "time"

// Hold records that something was put on hold, or taken off: op is add or remove, by has the fields
// that say who did it.
func (r *Records) Hold(op, what, reason, by string, at time.Time) {
	text := "op=hold-" + op + " hold=" + encodeName(what)
	if reason != "" {
		text += " reason=" + encodeName(reason)
	}
	if by == "" {
		by = asker
	}
	r.Add("DAEMON_CONFIG", "%s at=%d.%03d %s res=success", text, at.Unix(), at.Nanosecond()/1e6, by)
}
