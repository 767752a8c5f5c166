package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ReadComplete gives what is complete, then what is not, stops when it is told to, and says
// where the next reading may begin.
func TestReadComplete(t *testing.T) {
	call := "type=SYSCALL msg=audit(1700000002.000:9): a\n"
	title := strings.Replace(call, "SYSCALL", "PROCTITLE", 1)
	logs := func() *Logs {
		l := &Logs{}
		for _, text := range []string{login(1) + call, call + login(5), login(6), login(7) + strings.ReplaceAll(call, "02.000:9", "99.000:10") + strings.ReplaceAll(title, "02.000:9", "99.000:11")} {
			l.readers = append(l.readers, strings.NewReader(text))
		}
		return l
	}
	var got []string
	read := func(ctx context.Context, stopAt int) (from int, err error) {
		got = nil
		return logs().ReadComplete(ctx, ReadConfig{}, func(ev *event.Event) error {
			got = append(got, fmt.Sprintf("%dx%d", ev.Serial, len(ev.Records)))
			if len(got) == stopAt {
				return query.ErrStop
			}
			return nil
		}, func(ev *event.Event, ended bool) error {
			got = append(got, fmt.Sprintf("open %dx%d %v", ev.Serial, len(ev.Records), ended))
			return nil
		})
	}
	want := []string{"1x1", "9x2", "5x1", "6x1", "7x1", "open 10x1 false", "open 11x1 true"}
	if from, err := read(t.Context(), 0); err != nil || from != 3 || !slices.Equal(got, want) {
		t.Errorf("%q, %v; begins with %d", got, err, from)
	}
	if from, err := read(t.Context(), 2); err != nil || from != 0 || !slices.Equal(got, append(want[:2:2], "open 5x1 true")) {
		t.Errorf("stopped: %q, %v; begins with %d", got, err, from)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(ctx, 0); !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("cancelled: %q, %v", got, err)
	}
	failed := errors.New("failed")
	_, err := logs().ReadComplete(t.Context(), ReadConfig{}, func(*event.Event) error { return nil }, func(*event.Event, bool) error { return failed })
	if !errors.Is(err, failed) {
		t.Errorf("what is open can't be taken: %v", err)
	}
	broken := &Logs{readers: []io.Reader{iotest.ErrReader(failed)}}
	if _, err := broken.ReadComplete(t.Context(), ReadConfig{}, nil, nil); !errors.Is(err, failed) {
		t.Errorf("the log breaks off: %v", err)
	}
}

// readInto is what ReadComplete gives.
func readInto(t *testing.T, logs [][]byte) (complete, open []string, from int) {
	t.Helper()
	l := &Logs{}
	for _, log := range logs {
		l.readers = append(l.readers, bytes.NewReader(log))
	}
	from, err := l.ReadComplete(t.Context(), ReadConfig{}, func(ev *event.Event) error {
		complete = append(complete, eventText(ev))
		return nil
	}, func(ev *event.Event, _ bool) error {
		open = append(open, eventText(ev))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return complete, open, from
}

// TestReadOnFrom lets logs grow and be rotated. A reading that begins where the one before
// said gives, behind the last event that was complete then, what one of all logs gives.
func TestReadOnFrom(t *testing.T) {
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 79))
	moved := 0
	for round := range need.Rounds(400, 60) {
		var logs [][]byte
		for range 1 + r.IntN(5) {
			logs = append(logs, steadyLog(r, len(logs), 5+r.IntN(60)))
		}
		complete, _, from := readInto(t, logs)
		if len(complete) == 0 {
			continue
		}
		moved += min(from, 1)
		grown := append(slices.Clone(logs), steadyLog(r, len(logs), r.IntN(60)))
		all, open, _ := readInto(t, grown)
		part, partOpen, _ := readInto(t, grown[from:])
		last := complete[len(complete)-1]
		if !slices.Equal(all[:len(complete)], complete) {
			t.Fatalf("round %d (AUDITFLEET_SEED=%d): grown, it begins in another way", round, seed)
		}
		i := slices.Index(part, last)
		if i < 0 {
			t.Fatalf("round %d (AUDITFLEET_SEED=%d): the last event is not in the logs from %d on", round, seed, from)
		}
		want := fmt.Sprint(all[len(complete):], open)
		if got := fmt.Sprint(part[i+1:], partOpen); got != want {
			t.Fatalf("round %d (AUDITFLEET_SEED=%d), from %d of %d:\n got %s\nwant %s", round, seed, from, len(logs), got, want)
		}
	}
	if moved == 0 {
		t.Error("every reading begins with the first log")
	}
}

// steadyLog is the nth of logs that go on in each other: events are of several records,
// come late, and reach into the next log. None is so late that it is taken for two.
func steadyLog(r *rand.Rand, nth, lines int) []byte {
	var b bytes.Buffer
	ms, serial := int64(1_700_000_000_000+nth*5_000), 1000*nth
	line := func(typ string, ms int64, serial int) {
		fmt.Fprintf(&b, "type=%s msg=audit(%d.%03d:%d): n=%d\n", typ, ms/1000, ms%1000, serial, r.IntN(100))
	}
	type head struct {
		ms     int64
		serial int
	}
	var open []head
	if nth > 0 {
		open = append(open, head{ms - 200, serial - 1})
	}
	for range lines {
		if n := len(open); n > 0 && r.IntN(2) == 0 {
			h := open[max(0, n-1-r.IntN(3))]
			line([]string{"CWD", "PATH", "EOE"}[r.IntN(3)], h.ms, h.serial)
			continue
		}
		ms += int64(r.IntN(200))
		h := head{ms - int64(r.IntN(2)*r.IntN(400)), serial}
		serial++
		if r.IntN(3) == 0 {
			line([]string{"USER_AUTH", "PROCTITLE"}[r.IntN(2)], h.ms, h.serial)
			continue
		}
		line("SYSCALL", h.ms, h.serial)
		open = append(open, h)
	}
	if r.IntN(2) == 0 { // goes on in the next log
		line("SYSCALL", int64(1_700_000_000_000+(nth+1)*5_000)-200, 1000*(nth+1)-1)
	}
	return b.Bytes()
}

// A log that grows is read up to the end of its last whole line.
func TestReadWholeLines(t *testing.T) {
	long := strings.Repeat("x", 9<<10)
	for text, want := range map[string]int{
		"": 0, "x": 0, "\n": 1, "a\nb": 2, "a\nb\n": 4, long: 0, "a\n" + long: 2, long + "\n": len(long) + 1, long + "\n" + long: len(long) + 1,
	} {
		for _, size := range []int64{int64(len(text)), int64(len(text)) + 5000} { // cut meanwhile
			if got, err := wholeLines(strings.NewReader(text), size); err != nil || got != int64(want) {
				t.Errorf("%.20q of %d: %d, %v; want %d", text, size, got, err, want)
			}
		}
	}
	if _, err := wholeLines(brokenAt{io.ErrUnexpectedEOF}, 5); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken: %v", err)
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(login(1)+login(2)[:40]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, growing := range []bool{false, true} {
		in := Input{Path: path}
		logs, err := in.Open()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		count := func(*event.Event) error { n++; return nil }
		if _, err := logs.ReadComplete(t.Context(), ReadConfig{Growing: growing}, count, func(ev *event.Event, _ bool) error { return count(ev) }); err != nil {
			t.Error(err)
		}
		logs.Close()
		if want := map[bool]int{false: 2, true: 1}[growing]; n != want {
			t.Errorf("growing %v: %d events", growing, n)
		}
	}
}

// The first line of a log is the same however it is compressed.
func TestFirstLine(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.log": login(1) + login(2), "a.gz": login(1) + login(2), "a.zst": login(1), "half.log": "type=", "half.gz": "type=", "empty.log": "", "long.log": strings.Repeat("x", 2*maxLine),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pack(t, name, []byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		switch name[0] {
		case 'a':
			want = login(1)
		case 'l':
			want = text[:maxLine]
		}
		for range 2 {
			if got, err := FirstLine(f); err != nil || string(got) != want {
				t.Errorf("%s: %.40q, %v", name, got, err)
			}
		}
		f.Close()
		if _, err := FirstLine(f); err == nil {
			t.Errorf("%s: read when it is closed", name)
		}
	}
}

// A number that is missing among the rotated logs is noticed.
func TestRotating(t *testing.T) {
	for names, want := range map[string]bool{
		"audit.log": false, "audit.log audit.log.1": false, "audit.log audit.log.2": true, "audit.log audit.log.1 audit.log.3.gz": true,
		"audit.log audit.log.1.zst audit.log.2": false, "audit.log audit.log.1 audit.log.4": false, "audit.log audit.log.2026-11-22T10-00-00": false,
	} {
		dir := t.TempDir()
		for _, name := range strings.Fields(names) {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		in := Input{Path: dir, Notes: io.Discard}
		paths, err := in.Files()
		if got := Rotating(paths); err != nil || got != want {
			t.Errorf("%s: %v, %v", names, got, err)
		}
	}
}
