package selfaudit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// users are the accounts of a machine.
type users map[uint32]string

func (u users) User(uid uint32) (string, bool) {
	name, ok := u[uid]
	return name, ok
}

var alice = api.Who{PID: 7, UID: 1000, AUID: "1001", Session: "3", Title: []byte("collector\x00search\x00-n\x00web1")}

func TestAskedWords(t *testing.T) {
	f := &fixture{}
	f = open(f, still)
	f.cfg.Names, f.exe = users{1000: "alice", 1001: "al ice"}, `"/c"`
	exit := int32(1)
	all := []api.Asked{
		{Who: alice, Op: "search", Command: "search -n web1", Bytes: 14, Hosts: []string{"web1", "web2"}, Since: 1700000000000, State: api.StateComplete, Results: 3, Sent: 40, Took: 12 * time.Millisecond},
		{Who: alice, Op: "follow", Command: "follow", Bytes: 6, State: api.StateBegun, Results: 3},
		{Who: alice, Op: "verify", Command: "verify", Bytes: 6, Told: true, State: api.StateComplete, Exit: &exit, Took: time.Second},
		{Who: api.Who{UID: 4294967295, AUID: daemonrec.Unset, Session: daemonrec.Unset, Name: "bob", Serial: "0a", Addr: netip.MustParseAddrPort("[::ffff:192.0.2.1]:9")}, Op: "hosts", Command: "hosts", Bytes: 5, State: api.StateRefused, Reason: "no role\nhere"},
		{Who: api.Who{PID: 1, UID: 5, AUID: "0", Session: "1"}, Op: "hosts", Command: "hosts", Bytes: 5, State: api.StateCutOff, Reason: "enough"},
	}
	for i := range all {
		if f.Asked(&all[i]) == 0 {
			t.Error("no serial")
		}
	}
	f.Close()
	want := []string{
		`USER_CMD pid=7 uid=1000 auid=1001 ses=3 msg='op=search cmd=736561726368202D6E2077656231 hosts="web1,web2" since=2023-11-14T22:13:20.000Z until=? state=complete results=3 bytes=40 ms=12 proctitle=636F6C6C6563746F7200736561726368002D6E0077656231 exe="/c" hostname=? addr=? terminal=? res=success'` + "\x1d" + `UID="alice" AUID=616C20696365`,
		`USER_CMD pid=7 uid=1000 auid=1001 ses=3 msg='op=follow cmd="follow" state=begun proctitle=636F6C6C6563746F7200736561726368002D6E0077656231 exe="/c" hostname=? addr=? terminal=? res=success'` + "\x1d" + `UID="alice" AUID=616C20696365`,
		`USER_CMD pid=7 uid=1000 auid=1001 ses=3 msg='op=verify cmd="verify" told=yes state=complete ms=1000 exit=1 proctitle=636F6C6C6563746F7200736561726368002D6E0077656231 exe="/c" hostname=? addr=? terminal=? res=success'` + "\x1d" + `UID="alice" AUID=616C20696365`,
		`USER_CMD pid=4294967295 uid=4294967295 auid=4294967295 ses=4294967295 msg='op=hosts cmd=636572746966696361746520626F623A20686F737473 state=refused reason=6E6F20726F6C650A68657265 auth=cert serial=0a acct="bob" exe="/c" hostname=? addr=192.0.2.1 terminal=? res=failed'` + "\x1d" + `UID="unset" AUID="unset"`,
		`USER_CMD pid=1 uid=5 auid=0 ses=1 msg='op=hosts cmd="hosts" state=cut-off results=0 bytes=0 ms=0 reason="enough" exe="/c" hostname=? addr=? terminal=? res=failed'` + "\x1d" + `UID="unknown(5)" AUID="unknown(0)"`,
	}
	if diff := cmp.Diff(want, f.j.texts()); diff != "" {
		t.Error(diff)
	}
}

// TestAskedHostile has everything that a caller chooses as long and as odd as it may be.
func TestAskedHostile(t *testing.T) {
	f := open(&fixture{}, still)
	odd := strings.Repeat("\n'\xff\x00 res=success'\x1dAUID=\"root\" type=X msg=audit(1.1:1): ", 20000)
	hosts := make([]string, 4096)
	for i := range hosts {
		hosts[i] = odd[i : i+100]
	}
	f.Asked(&api.Asked{Who: api.Who{PID: 1, UID: 0, AUID: "0", Session: "1", Title: []byte(odd)}, Op: "search", Command: odd, Bytes: len(odd), Hosts: hosts, Since: -1, Until: 1 << 62, State: api.StateFailed, Reason: odd})
	f.Asked(&api.Asked{Who: api.Who{UID: 1, AUID: "0", Session: "1", Name: odd[:255], Serial: strings.Repeat("ff", 20), Addr: netip.MustParseAddrPort("[2001:db8::1]:9")}, Op: "search", Command: odd, Bytes: len(odd), Hosts: []string{odd}, State: api.StateBegun})
	f.Close()
	if len(f.j.stored) != 2 {
		t.Fatalf("%d records", len(f.j.stored))
	}
	for _, raw := range f.j.stored {
		if len(raw) > 8970 || strings.ContainsAny(raw, "\n\x00") || !utf8.ValidString(raw) || strings.Count(raw, "\x1d") != 1 || strings.Count(raw, "'") != 2 {
			t.Errorf("%d bytes: %q", len(raw), raw)
		}
		var r record.Record
		if err := r.Parse([]byte(raw)); err != nil {
			t.Fatal(err)
		}
		if got := string(interpret.New(interpret.Config{}).AppendBody(nil, &r)); !strings.Contains(got, " cmd_bytes=") {
			t.Errorf("%q", got)
		}
	}
}

// TestAskedQuota: who asks in a loop has so many records, and one that says how many more there
// were; others have theirs meanwhile.
func TestAskedQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		bob := api.Who{UID: 4294967295, AUID: daemonrec.Unset, Session: daemonrec.Unset, Name: "bob"}
		for i := range 1000 {
			a := &api.Asked{Who: alice, Op: "search", Command: "search", State: api.StateComplete, Hosts: []string{"web1"}, Since: 1700000000000 - int64(i), Until: 1700000001000}
			if i == 900 {
				a.Hosts, a.Until = []string{"vault", "web1"}, 0
			}
			if i%4 == 0 {
				a.Op, a.State = "hosts", api.StateRefused
			}
			f.Asked(a)
		}
		if f.Asked(&api.Asked{Who: bob, Op: "search", Command: "search", State: api.StateComplete}) == 0 {
			t.Error("another one's is not stored")
		}
		f.refusing.Store(true)
		if f.Asked(&api.Asked{Who: bob, Op: "count", Command: "count", State: api.StateComplete}) != 0 {
			t.Error("stored while the disk is full")
		}
		f.refusing.Store(false)
		time.Sleep(61 * time.Second)
		if f.Asked(&api.Asked{Who: alice, Op: "search", Command: "search", State: api.StateComplete}) == 0 {
			t.Error("nothing is stored in the next minute")
		}
		f.Close()
		var omitted []string
		for _, s := range f.j.stored {
			if strings.Contains(s, "op=queries-omitted") {
				_, s, _ = strings.Cut(s, "): ")
				s, _, _ = strings.Cut(s, " first=")
				omitted = append(omitted, s)
			}
		}
		want := map[string]bool{
			"pid=7 uid=1000 auid=1001 ses=3 msg='op=queries-omitted cmd=" + hexOf("640 more queries: 190 hosts, 450 search") + " queries=640 failed=190 hosts=\"web1,vault\" since=2023-11-14T22:13:19.001Z until=?": true,
			"pid=4294967295 uid=4294967295 auid=4294967295 ses=4294967295 msg='op=queries-omitted cmd=" + hexOf("certificate bob: 1 more queries: 1 count") + " queries=1 failed=0 hosts=\"*\" since=? until=?":      true,
		}
		for _, s := range omitted {
			if !want[s] {
				t.Errorf("%s", s)
			}
			delete(want, s)
		}
		if len(want) > 0 || len(f.j.stored) != 300+60+1+2+1 {
			t.Errorf("%d records; not there: %v", len(f.j.stored), want)
		}
	})
}

// TestAskedHidesNobody: neither hosts that have refused what they may not ask, nor others who ask in
// a loop, hide what one asks who may.
func TestAskedHidesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		cert := func(name string) api.Who {
			return api.Who{UID: 4294967295, AUID: daemonrec.Unset, Session: daemonrec.Unset, Name: name}
		}
		for i := range 2000 {
			f.Asked(&api.Asked{Who: cert(fmt.Sprint("host", i%10)), Op: "search", Command: "search", State: api.StateRefused})
			f.Asked(&api.Asked{Who: cert(fmt.Sprint("auditor", i%3)), Op: "search", Command: strings.Repeat("x", 2000), Bytes: 2000, State: api.StateComplete})
		}
		for i := range 20 {
			if f.Asked(&api.Asked{Who: alice, Op: "search", Command: fmt.Sprint("search -n web", i), State: api.StateComplete}) == 0 {
				t.Fatalf("the record of the %dth is not stored", i)
			}
		}
		f.Close()
		if n := len(f.j.stored); n > refusedPerMinute+askedPerMinute+20+maxAskers {
			t.Errorf("%d records", n)
		}
	})
}

// TestAskedMany: any number of askers takes bounded memory and records.
func TestAskedMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		for i := range 5000 {
			f.Asked(&api.Asked{Who: api.Who{PID: 1, UID: uint32(i), AUID: "0", Session: "1"}, Op: "search", Command: "search", State: api.StateComplete})
		}
		f.Close()
		if n := len(f.j.stored); n != askedPerMinute+maxAskers+1 {
			t.Errorf("%d records", n)
		}
		if !strings.Contains(strings.Join(f.j.stored, "\n"), " queries=4336 ") {
			t.Error("others are not added up")
		}
	})
}

func hexOf(s string) string { return encodeName(s) }
