package settings

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// told is what a made program can be told.
type told struct {
	store, mode, level, mail string
	listen                   []string
	hosts                    int
	wait                     time.Duration
	halt                     bool
}

func (o *told) table() Table {
	listen := conf.List("listen", &o.listen)
	some := listen.Set
	listen.Set = func(v string) error { // which may be empty
		if v == "" {
			o.listen = nil
			return nil
		}
		return some(v)
	}
	return Table{
		{Title: "Places", Restart: true, List: []Setting{
			{Key: conf.Path("store", &o.store), Default: "/var/lib/x", Arg: "FOLDER", Doc: "Folder of it."},
			{Key: listen, Default: ":60", Arg: "ADDR[,ADDR]", Doc: "Where to receive.\nSee x.conf(5), and y(8)."},
			{Key: conf.Word("port", new(string)), In: FileOnly, For: "listen", Arg: "PORT", Doc: "The stock key for it."},
		}},
		{Title: "Limits", Doc: "Of all.", List: []Setting{
			{Key: conf.Int("max_hosts", &o.hosts, 1, 100), Default: 20, Arg: "N", Doc: "Hosts; more are one."},
			{Key: conf.Enum("mode", &o.mode, "fast", "slow"), In: FileOnly, Default: "fast", Arg: "MODE", Restart: true},
			{Key: conf.Duration("wait", &o.wait, time.Second, time.Hour), Default: 30 * time.Second, Arg: "TIME", Advice: "1m", Doc: "How, and how long.\n.x\nIt is 'x'."},
			{Key: conf.Enum("level", &o.level, "low", "high"), Default: "low", Arg: "LEVEL", Doc: "What counts."},
			{Key: conf.Word("mail_to", &o.mail), Unset: "nobody", Arg: "NAME", Example: "root", Doc: "Who gets mail."},
			{Key: conf.YesNo("allow_halt", &o.halt), In: FlagOnly, Doc: "JSON comes first."},
		}},
		{Title: "Others", List: []Setting{
			{Key: conf.Ignored("old", ""), In: FileOnly, Effect: Idle},
			{Key: conf.Refused("older", "no", "never"), In: FileOnly, Effect: Fixed, Doc: "Without effect."},
		}},
	}
}

// parsed are the flags of a command line.
func parsed(t *testing.T, args ...string) (*pflag.FlagSet, error) {
	t.Helper()
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.SortFlags = false
	o := &told{}
	o.table().Defaults()
	o.table().AddFlags(flags)
	return flags, flags.Parse(args)
}

// A flag goes before the file, the file before the default, and each is checked by the
// same key; only a path may be relative behind a flag.
func TestThreeSources(t *testing.T) {
	o := &told{}
	o.table().Defaults()
	want := told{store: "/var/lib/x", mode: "fast", level: "low", listen: []string{":60"}, hosts: 20, wait: 30 * time.Second}
	if diff := cmp.Diff(want, *o, cmp.AllowUnexported(told{})); diff != "" {
		t.Error(diff)
	}
	flags, err := parsed(t, "--max-hosts=7", "--listen", "a:1,b:2", "--listen", "c:3", "--store", "here", "--allow-halt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conf.Parse("f", []byte("max_hosts = 8\nstore = /other\nmode = SLOW\nlisten = d:4\n"), o.table().Schema()); err != nil {
		t.Fatal(err)
	}
	if err := o.table().Apply(flags); err != nil {
		t.Fatal(err)
	}
	want = told{store: "here", mode: "slow", level: "low", listen: []string{"a:1", "b:2", "c:3"}, hosts: 7, wait: 30 * time.Second, halt: true}
	if diff := cmp.Diff(want, *o, cmp.AllowUnexported(told{})); diff != "" {
		t.Error(diff)
	}
	if flags, err = parsed(t, "--allow-halt=false", "--mail-to", ""); err != nil {
		t.Fatal(err)
	}
	o.mail = "x"
	if err := o.table().Apply(flags); err != nil || o.halt || o.mail != "" {
		t.Errorf("%v, %+v", err, o)
	}
	for _, text := range []string{"allow_halt = yes", "store = here", "max_hosts = 101"} {
		if _, err := conf.Parse("f", []byte(text), o.table().Schema()); err == nil {
			t.Errorf("a file may have %s", text)
		}
	}
	_, err = parsed(t, "--max-hosts", "101")
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) || wrong.Unwrap().Error() != "101 is too large: at most 100" {
		t.Error(err)
	}
	for _, args := range [][]string{{"--listen", "a:1", "--listen", ""}, {"--listen", "", "--listen", "a:1"}} {
		if _, err = parsed(t, args...); err == nil || !strings.Contains(err.Error(), "which means none: leave one of them out") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err = parsed(t, "--port", "1"); err == nil {
		t.Error("a flag for a key of files only")
	}
}

func TestWhatTheTableKnows(t *testing.T) {
	was, is := &told{hosts: 1, mode: "fast"}, &told{hosts: 2, mode: "slow", store: "/x"}
	if diff := cmp.Diff([]string{"store", "mode"}, Changed(was.table(), is.table())); diff != "" {
		t.Error(diff)
	}
	f, err := conf.Parse("f", []byte("old = 1\nmax_hosts = 3\nolder = never\n"), was.table().Schema())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"old"}, was.table().Idle(f)); diff != "" {
		t.Error(diff)
	}
	words := was.table().Words()
	if w := words["level"]; !slices.Equal(w.List(nil, ""), []string{"low", "high"}) || !words["store"].Folders || words["max-hosts"].List != nil {
		t.Errorf("%+v", words)
	}
	defer func() {
		if recover() == nil {
			t.Error("a default that its key refuses is taken")
		}
	}()
	Table{{List: []Setting{{Key: conf.Int("n", new(int), 1, 2), Default: 3}}}}.Defaults()
}

// The list of flags shows what the table says of each.
func TestHelp(t *testing.T) {
	flags, err := parsed(t)
	if err != nil {
		t.Fatal(err)
	}
	want := `      --store FOLDER         folder of it (default /var/lib/x)
      --listen ADDR[,ADDR]   where to receive (default :60)
      --max-hosts N          hosts; more are one (default 20)
      --wait TIME            how, and how long (default 30s)
      --level LEVEL          what counts: low, high (default low)
      --mail-to NAME         who gets mail (default nobody)
      --allow-halt           JSON comes first
`
	if diff := cmp.Diff(want, flags.FlagUsages()); diff != "" {
		t.Error(diff)
	}
}
