package texts

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// made is a table with settings of every kind.
func made() settings.Table {
	var store, mode, level, mail string
	var listen []string
	var hosts int
	var wait time.Duration
	var halt bool
	return settings.Table{
		{Title: "Places", Restart: true, List: []settings.Setting{
			{Key: conf.Path("store", &store), Default: "/var/lib/x", Arg: "FOLDER", Doc: "Folder of it."},
			{Key: conf.List("listen", &listen), Default: ":60", Arg: "ADDR[,ADDR]", Doc: "Where to receive.\nSee x.conf(5), and y(8)."},
			{Key: conf.Word("port", new(string)), In: settings.FileOnly, For: "listen", Arg: "PORT", Doc: "The stock key for it."},
		}},
		{Title: "Limits", Doc: "Of all.", List: []settings.Setting{
			{Key: conf.Int("max_hosts", &hosts, 1, 100), Default: 20, Arg: "N", Doc: "Hosts; more are one."},
			{Key: conf.Enum("mode", &mode, "fast", "slow"), In: settings.FileOnly, Default: "fast", Arg: "MODE"},
			{Key: conf.Duration("wait", &wait, time.Second, time.Hour), Default: 30 * time.Second, Arg: "TIME", Advice: "1m", Restart: true, Doc: "How, and how long.\n.x\nIt is 'x'."},
			{Key: conf.Enum("level", &level, "low", "high"), Default: "low", Arg: "LEVEL", Doc: "What counts."},
			{Key: conf.Word("mail_to", &mail), Unset: "nobody", Arg: "NAME", Example: "root", Doc: "Who gets mail."},
			{Key: conf.YesNo("allow_halt", &halt), In: settings.FlagOnly, Doc: "JSON comes first."},
		}},
		{Title: "Others", List: []settings.Setting{
			{Key: conf.Ignored("old", ""), In: settings.FileOnly, Effect: settings.Idle},
			{Key: conf.Refused("older", "no", "never"), In: settings.FileOnly, Effect: settings.Fixed, Doc: "Without effect."},
		}},
	}
}

func TestTexts(t *testing.T) {
	table := made()
	table.Defaults()
	for name, c := range map[string]struct{ got, want string }{
		"example": {ExampleFile(table), `
# --- Places (restart) ---

# Folder of it.
store = /var/lib/x
# Where to receive. See x.conf(5), and y(8).
listen = :60

# --- Limits ---

# Of all.

# Hosts; more are one. 1 to 100.
max_hosts = 20
# How, and how long. .x It is 'x'. 1s to 1h; by default 30s (restart).
mode = fast
wait = 1m
# What counts. One of low, high.
level = low
# Who gets mail. By default nobody.
#mail_to = root
`},
		"keys": {ManKeys(table), `
.Ss Places (restart)
.Bl -tag -width Ds
.It Cm store No = Ar FOLDER
Folder of it.
By default /var/lib/x.
.It Cm listen No = Ar ADDR[,ADDR]
Where to receive.
See
.Xr x.conf 5 ,
and
.Xr y 8 .
By default :60.
.It Cm port No = Ar PORT
The stock key for it.
.El
.Ss Limits
Of all.
.Bl -tag -width Ds
.It Cm max_hosts No = Ar N
Hosts; more are one.
1 to 100; by default 20.
.It Cm mode No = Ar MODE
.It Cm wait No = Ar TIME
How, and how long.
\&.x
It is 'x'.
1s to 1h (restart).
.It Cm level No = Ar LEVEL
What counts.
One of low, high; by default low.
.It Cm mail_to No = Ar NAME
Who gets mail.
By default nobody.
.El
.Ss Others
.Bl -tag -width Ds
.It Cm old
.It Cm older No = Ar never
Without effect.
.El
`},
		"options": {ManOptions(table, true), `
.It Fl -store Ar FOLDER
Folder of it.
By default /var/lib/x.
.It Fl -listen Ar ADDR[,ADDR]
Where to receive.
By default :60.
.It Fl -max-hosts Ar N
Hosts; more are one.
By default 20.
.It Fl -wait Ar TIME
How, and how long.
By default 30s.
.It Fl -level Ar LEVEL
What counts.
By default low.
.It Fl -mail-to Ar NAME
Who gets mail.
By default nobody.
.It Fl -allow-halt
JSON comes first.
`},
		"all of the options": {ManOptions(table[1:2], false), `
.It Fl -max-hosts Ar N
Hosts; more are one.
1 to 100; by default 20.
.It Fl -wait Ar TIME
How, and how long.
\&.x
It is 'x'.
1s to 1h; by default 30s.
.It Fl -level Ar LEVEL
What counts.
One of low, high; by default low.
.It Fl -mail-to Ar NAME
Who gets mail.
By default nobody.
.It Fl -allow-halt
JSON comes first.
`},
	} {
		if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), strings.TrimPrefix(c.got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
