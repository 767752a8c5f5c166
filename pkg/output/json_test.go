package output

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// rootOnly knows one account.
type rootOnly struct{}

func (rootOnly) User(uid uint32) (string, bool)          { return "root", uid == 0 }
func (rootOnly) Group(gid uint32) (string, bool)         { return "root", gid == 0 }
func (rootOnly) Protocol(uint16) (string, bool)          { return "", false }
func (rootOnly) UserID(name string) (id uint32, ok bool) { return 0, name == "root" }

// TestJSONExample makes the example of JSON.md.
func TestJSONExample(t *testing.T) {
	text, err := os.ReadFile("JSON.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```")
	if len(parts) != 5 {
		t.Fatalf("JSON.md has %d examples", len(parts)/2)
	}
	events := eventtest.Parse([]byte(parts[1][1:]))
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	f := NewFormatter(&Config{Format: FormatJSON, Words: true, Names: rootOnly{}}, nil)
	var got, want any
	decode := func(text string, to *any) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(to); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	decode(string(f.Append(nil, events[0])), &got)
	decode(strings.TrimPrefix(parts[3], "json"), &want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON.md's example (-) and what is written (+):\n%s", diff)
	}
}

// jsonEvent is JSON.md as a program would read it.
type jsonEvent struct {
	Time    time.Time
	Ms      int64
	Serial  uint64
	Node    *string
	Keys    []string
	Argv    []string
	Records []jsonRecord
}

type jsonRecord struct {
	Type          string
	Number        uint16
	Error, Raw    string
	RawBytes      string `json:"raw_bytes"`
	Fields, Msg   map[string]any
	FieldsBytes   map[string]string `json:"fields_bytes"`
	MsgBytes      map[string]string `json:"msg_bytes"`
	Enriched      map[string]any
	EnrichedBytes map[string]string `json:"enriched_bytes"`
}

// checkJSON holds what was written of ev against the event itself.
func checkJSON(t testing.TB, ev *event.Event, line []byte) {
	t.Helper()
	if !utf8.Valid(line) {
		t.Fatalf("no UTF-8: %q", line)
	}
	var got jsonEvent
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if got.Ms != ev.Ms || got.Serial != ev.Serial || len(got.Records) != len(ev.Records) || (got.Node == nil) != (ev.Node == nil) {
		t.Fatalf("another event: %s", line)
	}
	if last := time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli(); ev.Ms > last != got.Time.IsZero() || ev.Ms <= last && got.Time.UnixMilli() != ev.Ms {
		t.Errorf("time %v of %d", got.Time, ev.Ms)
	}
	for i := range ev.Records {
		r, g := &ev.Records[i], &got.Records[i]
		if utf8.Valid(r.TypeName) && g.Type != string(r.TypeName) || g.Number != r.Type || (g.Error != "") != (r.Err != nil) {
			t.Fatalf("another record: %s", line)
		}
		checkFields(t, r, r.Fields(), false, g.Fields, g.FieldsBytes)
		checkFields(t, r, r.MsgFields(), true, g.Msg, g.MsgBytes)
	}
}

// checkFields finds every value of a record in its object, byte for byte. Its own
// msg='…' is an object of its own, one nested in that is a value.
func checkFields(t testing.TB, r *record.Record, fields record.Fields, nested bool, got map[string]any, odd map[string]string) {
	t.Helper()
	times := map[string]int{}
	var all []record.Field
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		if utf8.Valid(f.Name) && (nested || string(f.Name) != "msg" || f.Quote != '\'') {
			all = append(all, f)
			times[string(f.Name)]++
		}
	}
	for _, f := range all {
		if times[string(f.Name)] > 1 {
			if list, ok := got[string(f.Name)].([]any); !ok || len(list) < times[string(f.Name)] {
				t.Fatalf("%s is there %d times: %v", f.Name, times[string(f.Name)], got[string(f.Name)])
			}
			continue
		}
		want := f.Value
		text := func() string {
			switch v := got[string(f.Name)].(type) {
			case string:
				return v
			case json.Number:
				return v.String()
			case nil:
				return "(null)"
			}
			t.Fatalf("%s=%s is %v", f.Name, f.Value, got[string(f.Name)])
			return ""
		}
		switch interpret.KindOf(r.Type, f.Name) {
		case interpret.Escaped, interpret.Account:
			if f.Quote != 0 || string(want) != "(null)" {
				want = f.AppendDecoded(nil)
			}
		case interpret.Key, interpret.Proctitle:
			if _, ok := got[string(f.Name)].([]any); !ok {
				t.Fatalf("%s is no list: %v", f.Name, got[string(f.Name)])
			}
			continue
		}
		if b, ok := odd[string(f.Name)]; ok {
			if exact, err := hex.DecodeString(b); err != nil || !bytes.Equal(exact, want) || utf8.Valid(want) {
				t.Fatalf("the bytes of %s are %q, not %q", f.Name, want, exact)
			}
			continue
		}
		if text() != string(want) {
			t.Fatalf("%s is %q, want %q", f.Name, text(), want)
		}
	}
}

// TestJSONHoldsAll reads every event of every log, and generated ones, back.
func TestJSONHoldsAll(t *testing.T) {
	logs := map[string][]*event.Event{"generated": eventtest.Parse([]byte(madelog.Log(rand.New(rand.NewPCG(need.Seed(t), 1)), 2000)))}
	for _, name := range []string{"kernel-raw", "kernel-node", "types", "fleet"} {
		logs[name] = eventtest.Read(t, "../search/testdata/"+name+".log")
	}
	n := 0
	for name, events := range logs {
		for _, words := range []bool{false, true} {
			f := newJSONFormat(&Config{Words: words})
			var line []byte
			for _, ev := range events {
				line = f.Append(line[:0], ev)
				checkJSON(t, ev, line)
				n++
			}
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	t.Logf("%d objects", n)
}

// TestJSONNoAllocs holds the formatter to its buffers.
func TestJSONNoAllocs(t *testing.T) {
	events := eventtest.Read(t, "../search/testdata/kernel-raw.log")
	for _, format := range []Format{FormatJSON, FormatCSV, FormatText, FormatInterpret} {
		f := NewFormatter(&Config{Format: format, Words: true}, time.UTC)
		var text []byte
		run := func() {
			for _, ev := range events {
				text = f.Append(text[:0], ev)
			}
		}
		run()
		if n := testing.AllocsPerRun(3, run) / float64(len(events)); n > 0.5 {
			t.Errorf("%s: %.2f allocations an event", format, n)
		}
	}
}

// FuzzJSON writes whatever a log holds, and reads it back.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("node=a type=SYSCALL msg=audit(1.002:3): arch=c000003e syscall=59 a0=1 key=6101\x1dARCH=x86_64\ntype=EXECVE msg=audit(1.002:3): argc=1 a0=FF\n"))
	f.Add([]byte("type=USER_AVC msg=audit(1.002:3): pid=1 msg='avc:  denied  { a b } for x=\"y\xff\" pid=2 pid=3'\nnonsense\ntype=\xff msg=audit(2.0:1): \xffx=1\n"))
	f.Add([]byte("type=CONFIG_CHANGE msg=audit(1.002:3): auid=? op=\"add rule\" key=(null) list=4 res=1\n"))
	f.Add([]byte("type=LOGIN msg=audit(253402300799.999:1): a=1\ntype=LOGIN msg=audit(253402300800.000:2): a=1\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		format := newJSONFormat(&Config{Words: true, Names: rootOnly{}})
		for _, ev := range eventtest.Parse(log) {
			checkJSON(t, ev, format.Append(nil, ev))
		}
	})
}

func BenchmarkFormats(b *testing.B) {
	events := eventtest.Read(b, "../search/testdata/kernel-raw.log")
	size := 0
	for _, ev := range events {
		for i := range ev.Records {
			size += len(ev.Records[i].Raw) + 1
		}
	}
	for _, format := range []Format{FormatJSON, FormatCSV, FormatText, FormatInterpret} {
		b.Run(format.String(), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			f := NewFormatter(&Config{Format: format}, time.UTC)
			var text []byte
			for b.Loop() {
				for _, ev := range events {
					text = f.Append(text[:0], ev)
				}
			}
		})
	}
}

// TestJSONSocket says that the object of a call on a socket is the address and its port,
// with the parts beside it, the same of raw and enriched records.
func TestJSONSocket(t *testing.T) {
	for _, c := range []struct{ raw, words, want string }{
		{"020001BBC6336419000000000000000000", "{ saddr_fam=inet laddr=198.51.100.25 lport=443 }",
			`"object":"198.51.100.25:443","object_family":"inet","object_address":"198.51.100.25","object_port":443,`},
		{"0A0001BB0000000020010DB800000000000000000000004200000000", "{ saddr_fam=inet6 laddr=2001:db8::42 lport=443 }",
			`"object":"[2001:db8::42]:443","object_family":"inet6","object_address":"2001:db8::42","object_port":443,`},
		{"01002F72756E2F61206200", "{ saddr_fam=local path=/run/a b }", `"object":"/run/a b","object_family":"local","object_address":"/run/a b","object_kind"`},
		{"100000000000000000000000", "{ saddr_fam=netlink nlnk-fam=16 nlnk-pid=0 }", `"object":"netlink 0","object_family":"netlink","object_address":"0","object_kind"`},
		{"28000000000400000200000000000000", "{ saddr_fam=vsock (unsupported) }",
			`"object":"vsock 2:1024","object_family":"vsock","object_address":"2","object_port":1024,`},
		{"(none)", "malformed-host((none))", `"object":"malformed-host((none))","object_kind"`},
	} {
		for _, tail := range []string{"", "\x1dSADDR=" + c.words} {
			log := `type=SYSCALL msg=audit(1700000026.389:170): arch=c000003e syscall=42 success=yes exit=0 a0=3 a1=7ffc a2=10 a3=0 items=0 pid=1 uid=0 auid=0 exe="/x"` +
				"\ntype=SOCKADDR msg=audit(1700000026.389:170): saddr=" + c.raw + tail + "\n"
			f := newJSONFormat(&Config{Names: rootOnly{}})
			for _, ev := range eventtest.Parse([]byte(log)) {
				if got := string(f.Append(nil, ev)); !strings.Contains(got, c.want) {
					t.Errorf("%s%s: %s\nwant %s", c.raw, tail, got, c.want)
				}
			}
		}
	}
}

// TestJSONDecision: what a security module decided is the result where the records say none.
func TestJSONDecision(t *testing.T) {
	stamped := func(typ, body string) string { return "type=" + typ + " msg=audit(1700000026.389:170): " + body + "\n" }
	avc := func(what string) string {
		return stamped("AVC", "avc:  "+what+` { read } for  pid=7 comm="c" scontext=s tcontext=o tclass=file`)
	}
	userAVC := func(what, more string) string {
		return stamped("USER_AVC", "pid=7 subj=s msg='avc:  "+what+` { send } for tclass=dbus exe="/e" hostname=? `+more+"'")
	}
	call := func(success string) string {
		return stamped("SYSCALL", "arch=c000003e syscall=2 "+success+"exit=0 pid=7")
	}
	apparmor := func(what string) string {
		return stamped("AVC", `apparmor="`+what+`" operation="open" profile="p" name="/n" pid=7`)
	}
	for _, c := range []struct{ log, want string }{
		{avc("granted"), "true"}, {avc("denied"), "false"},
		{avc("granted") + avc("denied"), "true"}, {avc("denied") + avc("granted"), "false"},
		{avc("denied") + call(""), "false"}, {call("") + avc("granted") + avc("denied"), "true"},
		{avc("denied") + call("success=yes "), "true"}, {call("success=no ") + avc("granted"), "false"},
		{userAVC("denied", ""), "false"}, {userAVC("granted", ""), "true"},
		{userAVC("granted", "res=failed"), "false"}, {userAVC("denied", "res=success"), "true"},
		{apparmor("DENIED"), "false"}, {apparmor("ALLOWED"), "true"}, {apparmor("STATUS"), ""},
		{avc("granted") + stamped("CONFIG_CHANGE", "auid=0 res=0"), ""}, // csv does not know either
		{stamped("PROCTITLE", "proctitle=61"), ""},
	} {
		f := newJSONFormat(&Config{Names: rootOnly{}})
		for _, ev := range eventtest.Parse([]byte(c.log)) {
			line := string(f.Append(nil, ev))
			_, got, _ := strings.Cut(line, `"success":`)
			got, _, _ = strings.Cut(got, ",")
			if strings.Contains(got, `"`) { // that of the call
				got = ""
			}
			if got != c.want {
				t.Errorf("success %q, want %q: %s", got, c.want, line)
			}
		}
	}
}
