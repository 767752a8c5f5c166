package search

import (
	"strings"
	"testing"
	"time"
)

// Times reach the query to the millisecond, whatever their form, and end where the next
// option begins.
func TestTimeOptions(t *testing.T) {
	env := utcEnv
	env.Now = time.Date(2026, 11, 28, 14, 4, 5, 0, time.UTC)
	log := writeLog(t, stamped("SYSCALL", exampleCall)+"\n") // at 1700000000.123
	for _, c := range []struct {
		args  string // apart by bars
		finds bool
	}{
		{"-ts|@1700000000.123|-te|@1700000000.123", true}, {"-ts|@1700000000.124", false}, {"-te|@1700000000.122", false}, {"-te|@1700000000", true},
		{"-ts|2023-11-14T22:13:20.123Z|-k|k", true}, {"-ts|2023-11-14T22:13:20.124Z|-k|k", false}, {"-te|2023-11-14|22:13:20|-k|k", true},
		{"-te|2023-11-14 22:13:19|-k|k", false}, {"-ts|-4y|-k|k", true}, {"-ts|-1h|-k|k", false}, {"-ts|3|years|ago|-k|k", false}, {"-ts|4|years|ago|-te|yesterday|-k|k", true},
		{"-te|2023-11-14T23:13:20+01:00", true}, {"-te|2023-11-14T23:13:20+01:30", false}, {"-te|tomorrow", true}, {"-ts|11/14/2023|22:13:20", true},
	} {
		args := append([]string{"-if", log, "-r"}, strings.Split(c.args, "|")...)
		if r := runOurs(env, args...); (r.out != "") != c.finds || strings.Contains(r.stderr, "date") {
			t.Errorf("%s: exit %d, %q; found: want %v", c.args, r.code, r.stderr, c.finds)
		}
	}
}

// A range in which nothing can be is said, but under the stock name.
func TestRangeNotes(t *testing.T) {
	env := utcEnv
	env.Now = time.Date(2026, 11, 28, 14, 4, 5, 0, time.UTC)
	for _, c := range []struct{ args, want string }{
		{"-ts 2026-11-28 -te 2026-11-27", "NOTE - nothing can be found: it begins at 2026-11-28 00:00:00 +00:00, after its end at 2026-11-27 14:04:05 +00:00"},
		{"-ts 12/11/26", "NOTE - it begins at 2026-12-11 00:00:00 +00:00, which is yet to come"},
		{"-ts tomorrow --follow", ""}, {"-ts today -te now", ""}, {"-te 2026-12-30", ""}, {"-ts now", ""},
	} {
		o, err := ParseArgs(strings.Fields(c.args), env)
		if err != nil || strings.Join(o.Notes, "\n") != c.want {
			t.Errorf("%s: %q, %v", c.args, o.Notes, err)
		}
		env := env
		env.Stock = true
		if o, err := ParseArgs(strings.Fields(c.args), env); err != nil || len(o.Notes) > 0 {
			t.Errorf("%s under the stock name: %q, %v", c.args, o.Notes, err)
		}
	}
}
