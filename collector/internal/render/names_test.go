package render

import (
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// hubNames are the accounts of the machine that has the store.
type hubNames struct{}

func (hubNames) User(uid uint32) (string, bool)   { return "hubuser", uid != 0 }
func (hubNames) Group(gid uint32) (string, bool)  { return "hubgroup", gid != 0 }
func (hubNames) Protocol(n uint16) (string, bool) { return "tcp", n == 6 }
func (hubNames) UserID(string) (uint32, bool)     { return 1000, true }

// fleetOf has one raw event of the hub, of another host and of a host without a name, and
// an enriched one of another host.
func fleetOf() (all someEvents) {
	const body = ` arch=c000003e syscall=59 success=yes exit=0 a0=1 items=0 ppid=1 pid=2 auid=1000 uid=1000 gid=1000 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="id" exe="/usr/bin/id" key="k"`
	for _, line := range []string{
		"node=hub type=SYSCALL msg=audit(1764338645.000:1):" + body,
		"node=web1 type=SYSCALL msg=audit(1764338645.000:2):" + body,
		"type=SYSCALL msg=audit(1764338645.000:3):" + body,
		"node=web2 type=SYSCALL msg=audit(1764338645.000:4):" + body + "\x1dAUID=\"carol\" UID=\"carol\" GID=\"staff\" EUID=\"root\"",
	} {
		all = append(all, eventtest.Parse([]byte(line))...)
	}
	return all
}

// No format names an id of another host by the accounts of the machine that has the store.
func TestNamesOfHosts(t *testing.T) {
	for _, words := range []string{"-i", "--format text", "--format csv", "--format json -i", "--tree"} {
		o, err := ParseSearch(append(strings.Fields(words), "-k", "k"), false)
		if err != nil {
			t.Fatal(err)
		}
		o.Names = interpret.NewFleet(hubNames{}, "hub")
		for i, ev := range fleetOf() {
			var out, errs strings.Builder
			if code := Search(t.Context(), o, someEvents{ev}, &out, &errs); code != 0 {
				t.Fatalf("%s: exit code %d, %s", words, code, errs.String())
			}
			has := func(s string) bool { return strings.Contains(out.String(), s) }
			if has("hub"+"user") != (i == 0) || has("hub"+"group") && i != 0 {
				t.Errorf("%s, event %d: %s", words, i+1, out.String())
			}
			if carol := has("carol"); carol != (i == 3) || i > 0 && i < 3 && !has("1000") || has("unknown(") {
				t.Errorf("%s, event %d: %s", words, i+1, out.String())
			}
		}
	}
}

// A csv says of which kind an account is without asking this machine for its number.
func TestKindOfStrangersAccount(t *testing.T) {
	const login = ` type=USER_LOGIN msg=audit(1764338646.123:5): pid=3 uid=0 auid=4294967295 ses=4294967295 msg='op=login acct="alice" exe="/usr/sbin/sshd" hostname=h addr=192.0.2.1 terminal=ssh res=failed'`
	for node, want := range map[string]string{"hub": "user-acct", "web1": "unknown-acct"} {
		o, err := ParseSearch([]string{"--format", "csv", "-m", "USER_LOGIN"}, false)
		if err != nil {
			t.Fatal(err)
		}
		o.Names = interpret.NewFleet(hubNames{}, "hub")
		var out strings.Builder
		Search(t.Context(), o, someEvents(eventtest.Parse([]byte("node="+node+login))), &out, &out)
		if !strings.Contains(out.String(), ","+want+",") {
			t.Errorf("%s: %s", node, out.String())
		}
	}
}

// Reports name no id by the accounts of this machine: a row is of many hosts.
func TestNamesInReports(t *testing.T) {
	for _, words := range []string{"-u -i", "-u -i --summary", "--by auid -i", "--by auid,node -i", "--by gid -i --format json", "-x -i", "-k -i", "-s -i"} {
		o, err := ParseReport(strings.Fields(words), false)
		if err != nil {
			t.Fatal(err)
		}
		o.Names = interpret.NewFleet(hubNames{}, "hub")
		var out, errs strings.Builder
		if code := Report(t.Context(), o, fleetOf(), &out, &errs); code != 0 || strings.Contains(out.String(), "hubuser") || strings.Contains(out.String(), "hubgroup") ||
			!strings.Contains(out.String(), "1000") || strings.Contains(out.String(), "unknown(") {
			t.Errorf("%s: exit code %d %s\n%s", words, code, errs.String(), out.String())
		}
	}
}

// A name in the words that only this machine's accounts have a number for is said to be
// one; root and numbers are the same everywhere.
func TestNotesOfLocalIDs(t *testing.T) {
	for words, want := range map[string]bool{
		"-ui nobody": true, "-ua nobody": true, "-gi nogroup": true, "-ui root": false, "-ui 1": false, "-ui no-such-account": false,
	} {
		for _, src := range []someEvents{fleetOf(), {}} {
			var out, errs strings.Builder
			if _, err := Text(t.Context(), src, nil, strings.Fields(words), &out, &errs); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(errs.String(), " on this machine: "); got != want {
				t.Errorf("%s: %q", words, errs.String())
			}
		}
	}
}

// A condition on what an id is called does not ask this machine's accounts of another
// host's id.
func TestConditionsOnNames(t *testing.T) {
	name, _ := query.FleetNames().Of(nil).User(1)
	if name != "1" {
		t.Fatalf("1 is called %s", name)
	}
	line := "node=web1 type=USER_CMD msg=audit(1764338646.123:5): pid=3 uid=1 auid=4294967295 ses=4294967295 msg='cmd=6964 res=success'"
	for expression, want := range map[string]bool{`uid i= "daemon"`: false, `uid i= "1"`: true, `auid i= "unset"`: true} {
		q := &query.Query{Fleet: true, Filters: []query.Filter{{Expression: expression}}}
		if err := q.Check(); err != nil {
			t.Fatal(err)
		}
		ev := eventtest.Parse([]byte(line))[0]
		if got := query.NewMatcher(q).Match(ev); got != want {
			t.Errorf("%s: %v", expression, got)
		}
	}
}
