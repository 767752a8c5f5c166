package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/interpret"
)

// TestInterpretDates writes dates as the locale does, and the time in its zone.
func TestInterpretDates(t *testing.T) {
	const log = "type=USER_AUTH msg=audit(1700000000.007:45): pid=1 res=1\n"
	for _, c := range []struct{ locale, want string }{
		{"C", "11/14/23 23:13:20.007:45"}, {"de_DE.UTF-8", "14.11.2023 23:13:20.007:45"}, {"en_DK", "2023-11-14 23:13:20.007:45"},
		{"bg_BG", "14.11.2023 23:13:20.007:45"}, {"xx_YY", "11/14/23 23:13:20.007:45"}, {"ja_JP.UTF-8", "2023年11月14日 23:13:20.007:45"},
	} {
		zone := time.FixedZone("CET", 3600)
		var out bytes.Buffer
		w := NewWriter(&out, &Config{Format: FormatInterpret, Locale: c.locale}, zone)
		for _, ev := range eventtest.Parse([]byte(log)) {
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := "----\ntype=USER_AUTH msg=audit(" + c.want + ") : pid=1 res=yes \n"; out.String() != want {
			t.Errorf("%s: got %q, want %q", c.locale, out.String(), want)
		}
	}
}

// TestInterpretHeads has between a record's stamp and its body what the record has: old
// daemons wrote no colon, and the blank behind it may be gone from the end of a line.
func TestInterpretHeads(t *testing.T) {
	for _, c := range []struct{ record, want, shell string }{
		{"type=EOE msg=audit(1.002:3): ", "type=EOE msg=audit(01/01/70 00:00:01.002:3) : \n", `:\ ` + "\n"},
		{"type=EOE msg=audit(1.002:3):", "type=EOE msg=audit(01/01/70 00:00:01.002:3) :\n", ":\n"},
		{"node=n type=EOE msg=audit(1.002:3):", "node=n type=EOE msg=audit(01/01/70 00:00:01.002:3) :\n", ":\n"},
		{"type=DAEMON_CONFIG msg=audit(1.002:3) config changed, pid=1", "type=DAEMON_CONFIG msg=audit(01/01/70 00:00:01.002:3)  config changed, pid=1 ", ""},
		{"type=DAEMON_CONFIG msg=audit(1.002:3):config changed, pid=1\x1dAUID=\"a\"", "type=DAEMON_CONFIG msg=audit(01/01/70 00:00:01.002:3) :config changed, pid=1 ", ""},
		{"type=DAEMON_CONFIG msg=audit(1.002:3): pid=1\x1dAUID=\"a\"", "type=DAEMON_CONFIG msg=audit(01/01/70 00:00:01.002:3) : pid=1 ", ""},
	} {
		for escape, want := range map[interpret.Escape]string{interpret.EscapeRaw: c.want, interpret.EscapeShell: c.shell} {
			f := newInterpretFormat(&Config{Format: FormatInterpret, Locale: "C", Escape: escape}, time.UTC)
			got := string(f.Append(nil, eventtest.Parse([]byte(c.record + "\n"))[0]))
			if !strings.Contains(got, want) {
				t.Errorf("%q: %q, want %q", c.record, got, want)
			}
		}
	}
}

// FuzzInterpretWriter writes whatever a log holds.
func FuzzInterpretWriter(f *testing.F) {
	f.Add([]byte("node=a type=SYSCALL msg=audit(1.002:3): arch=c000003e syscall=59 a0=1\x1dARCH=x86_64\ntype=EOE msg=audit(1.002:3): \n"))
	f.Add([]byte("type=DAEMON_START msg=audit(1.002:3): op=start auid=?\nnonsense\ntype=X msg=audit(9999999999.999:9):y=\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		var out bytes.Buffer
		w := NewWriter(&out, &Config{Format: FormatInterpret}, time.UTC)
		events := 0
		for _, ev := range eventtest.Parse(log) {
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
			events++
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(out.Bytes(), []byte("----\n")); got < events {
			t.Errorf("%d events came out as %d", events, got)
		}
	})
}

func BenchmarkInterpretFormat(b *testing.B) {
	events := eventtest.Read(b, "../search/testdata/kernel-raw.log")
	size := 0
	for _, ev := range events {
		for i := range ev.Records {
			size += len(ev.Records[i].Raw) + 1
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	w := newInterpretFormat(&Config{}, time.UTC)
	var text []byte
	for b.Loop() {
		for _, ev := range events {
			text = w.Append(text[:0], ev)
		}
	}
}
