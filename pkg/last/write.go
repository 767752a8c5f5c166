package last

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// writer writes sessions as lines, and keeps the first error.
type writer struct {
	o    *Options
	out  io.Writer
	loc  *time.Location
	now  int64
	node string // of the session that is written
	err  error
}

func (w *writer) printf(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format, args...)
	}
}

// notFound says for --debug that a USER_LOGIN belongs to no session, where the stock tool says so:
// among the lines.
func (w *writer) notFound() {
	if w.o.Debug {
		w.printf("Session not found or updated\n")
	}
}

// extract keeps a record for --extract.
func (w *writer) extract(r *record.Record) {
	if w.o.records != nil && w.err == nil {
		_, w.err = w.o.records.Write(append(append([]byte(nil), r.Raw...), '\n'))
	}
}

// clip cuts text to a number of bytes, as the stock tool's columns are.
func clip(text string, n int) string { return text[:min(len(text), n)] }

// pad fills text up to a number of bytes: fmt counts characters.
func pad(text string, n int) string {
	for len(text) < n {
		text += " "
	}
	return text
}

func column(text string, n int) string { return pad(clip(text, n), n) }

func (w *writer) at(sec int64) time.Time { return time.Unix(sec, 0).In(w.loc) }

// head writes a line up to the time at which the session began.
func (w *writer) head(name string, one *session) {
	if w.o.Hosts {
		w.printf("%s ", column(cmp.Or(w.node, "-"), 16))
	}
	w.printf("%s %s %s %s ", name, column(one.tty, 12), column(cmp.Or(one.host, "?"), 16), w.at(one.start).Format("Mon Jan _2 15:04"))
}

func (w *writer) session(one *session) {
	w.head(column(one.name, 8), one)
	switch {
	case one.ending == open && one.login:
		w.printf("  still logged in\n")
	case one.ending == open:
		w.printf("\n")
	case one.ending == crashed:
		w.printf("- crash\n")
	case one.ending == gone:
		w.printf("  gone - no logout\n")
	default:
		w.length(one)
	}
	if !w.o.Proof {
		return
	}
	w.printf("    audit event proof serial numbers: %d, %d, %d\n", one.serials[0], one.serials[1], one.serials[2])
	w.search(one)
	w.printf("\n\n")
}

// length writes when a session ended and how long it was.
func (w *writer) length(one *session) {
	took := one.end - one.start
	minutes, hours, days := took/60%60, took/3600%24, took/86400
	w.printf("- %-7s", w.at(one.end).Format("15:04"))
	if days != 0 {
		w.printf("(%d+%02d:%02d)\n", days, hours, minutes)
		return
	}
	w.printf("(%02d:%02d)\n", hours, minutes)
}

// search writes the words that find the session's events.
func (w *writer) search(one *session) {
	end := one.end
	if one.ending == open {
		end = w.now
	}
	w.printf("    Session data can be found with this search:\n    ausearch --start %s --end %s", w.date(one.start), w.date(end))
}

func (w *writer) date(sec int64) string {
	return string(output.AppendDate(nil, w.o.Locale, w.at(sec)))
}

// bad writes a login that failed; named says that the account's name is known.
func (w *writer) bad(one *session, named bool) {
	name := column(one.name, 8)
	if !named {
		name = ""
		if one.uid != 0 { // the stock tool writes no number that is 0
			name = fmt.Sprint(one.uid)
		}
		name = pad(name, 8)
	}
	w.head(name, one)
	w.length(one)
	if !w.o.Proof {
		return
	}
	w.printf("    audit event proof serial number: %d\n", one.serials[0])
	w.search(one)
	w.printf(" -a %d\n\n", one.serials[0])
}
