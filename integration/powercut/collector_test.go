//go:build power

package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	diskSize = 512 << 20
	// A command on a disk of a cut takes a moment; this is for a machine that is busy with others.
	patience = 5 * time.Minute
)

// signed is a checkpoint that somebody had of the collector when the log was so long.
type signed struct {
	position int64
	text     []byte
}

// TestCollector: senders send to a collector whose disk logs all writes; partitions are sealed, the log
// is signed, days are compacted, and the collector is killed and stopped meanwhile. Wherever the power is cut then, what was
// acknowledged is there once, verify finds nothing, no checkpoint that was shown is contradicted, and
// when the senders send again what was not acknowledged, each record is there once.
func TestCollector(t *testing.T) {
	dir := folder(t)
	bins, err := harness.Build(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := NewDevice(filepath.Join(dir, "disk"), diskSize)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := &collectorWork{bins: bins, dev: dev, dir: dir}
	w.start(t)
	from := dev.Position()
	senders := []*sender{}
	for i := range 8 {
		s := &sender{id: i, start: time.Now().Add(-12 * 24 * time.Hour), window: 64, rest: time.Millisecond}
		if i < 3 {
			s.window = 1 // as stock ones
		}
		senders = append(senders, s)
	}
	stop := start(senders, w.c, dev.Position)
	for i := range setting(t, "POWER_SECONDS", 30) {
		time.Sleep(time.Second)
		w.look(t)
		switch i % 10 {
		case 2, 5, 8:
			if err := w.c.Signal(syscall.SIGUSR1); err != nil { // seals the partition
				t.Fatal(err)
			}
		case 6:
			w.c.Kill()
			w.start(t)
		case 9:
			if err := w.c.Terminate(patience); err != nil {
				t.Fatal(err)
			}
			w.compact(t)
			w.start(t)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	to := dev.Position()
	w.c.Kill()
	if err := dev.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := dev.Log()
	if err != nil {
		t.Fatal(err)
	}
	base, err := dev.Base()
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	sent := 0
	for _, s := range senders {
		sent += s.all()
	}
	t.Logf("%d records acknowledged, %d checkpoints, %d partitions compacted, %d writes and flushes logged (%d MB)", sent, len(w.signed), w.compacted, len(log.Entries), to>>20)
	if w.compacted == 0 {
		t.Error("nothing was compacted")
	}
	cuts := plan(t, log, log.At(from), log.At(to), setting(t, "POWER_CUTS", 220))
	eachCut(t, dir, NewDisk(log, base), cuts, nil, func(c Cut, name, mnt string) error {
		return w.check(senders, name, mnt, log.Entries[c.Entries-1].End)
	})
}

// collectorWork is a collector on a device.
type collectorWork struct {
	bins   *harness.Binaries
	dev    *Device
	dir    string
	grpc   []string // flags of its gRPC port
	c      *harness.Collector
	port   int
	public []byte // of its key

	signed    []signed
	compacted int // partitions that were written again
}

// options are those of a collector below mnt.
func (w *collectorWork) options(mnt string, more ...string) harness.CollectorOptions {
	return harness.CollectorOptions{Store: filepath.Join(mnt, "store"),
		Args: slices.Concat([]string{"--tcp-max-per-addr", "64", "--disk-reserve", "1M", "--seal-key", filepath.Join(mnt, "seal/key"), "--seal-interval", "1s"}, more)}
}

// start starts it, the first time with a new key.
func (w *collectorWork) start(t *testing.T) {
	t.Helper()
	if w.public == nil {
		r, err := harness.Run(patience, w.bins.Collector, "seal", "init", "--name", "power", "--key", filepath.Join(w.dev.Dir, "seal/key"))
		if err != nil || r.Code != 0 {
			t.Fatalf("seal init: %v %s%s", err, r.Stdout, r.Stderr)
		}
		w.public = r.Stdout
	}
	o := w.options(w.dev.Dir, w.grpc...)
	o.Port = w.port
	c, err := harness.StartCollector(w.bins, o)
	if err != nil {
		t.Fatal(err)
	}
	w.c, w.port = c, c.Port
	t.Cleanup(c.Kill)
}

// compact writes what is sealed again, parts of a day that have become many into one.
func (w *collectorWork) compact(t *testing.T) {
	t.Helper()
	o := w.options(w.dev.Dir)
	r, err := w.collector([]int{0}, "compact", "--store", o.Store, "--today", "--after", "0s", "--key", filepath.Join(w.dev.Dir, "seal/key"))
	if err != nil {
		t.Fatal(err)
	}
	w.compacted += bytes.Count(r.Stdout, []byte(" on the disk, "))
}

// look takes the newest checkpoint, as a host does that is a witness.
func (w *collectorWork) look(t *testing.T) {
	t.Helper()
	r, err := w.c.Command(patience, "seal", "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 0 && len(r.Stdout) > 0 {
		w.signed = append(w.signed, signed{w.dev.Position(), r.Stdout})
	}
}

// collector runs one of its commands on a store, which must end with one of the codes.
func (w *collectorWork) collector(codes []int, args ...string) (*harness.Result, error) {
	r, err := harness.Run(patience, append([]string{w.bins.Collector}, args...)...)
	if err == nil && !slices.Contains(codes, r.Code) {
		err = fmt.Errorf("collector %s: exit %d:\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r, err
}

// check looks at the disk of a cut.
func (w *collectorWork) check(senders []*sender, name, mnt string, position int64) error {
	store := filepath.Join(mnt, "store")
	if err := w.verify(name, store, position); err != nil {
		return fmt.Errorf("before a start: %w", err)
	}
	acked, limits := make([]int, len(senders)), make([]int, len(senders))
	for i, s := range senders {
		acked[i] = s.acked(position)
		limits[i] = acked[i] + s.window
	}
	if err := w.once(senders, store, acked, limits); err != nil {
		return fmt.Errorf("before a start: %w", err)
	}
	c, err := harness.StartCollector(w.bins, w.options(mnt))
	if err != nil {
		return err
	}
	defer c.Kill()
	errs := make(chan error)
	for i, s := range senders {
		go func() {
			errs <- (&sender{id: s.id, start: s.start, window: s.window}).resend(c.Addr(), acked[i], limits[i]+1)
		}()
	}
	for range senders {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return fmt.Errorf("send again: %w; the collector:\n%s", err, c.Output())
	}
	if err := c.Terminate(patience); err != nil {
		return err
	}
	if bad := complaints(c.Output()); bad != "" {
		return fmt.Errorf("the collector complains:\n%s", bad)
	}
	for i := range limits {
		limits[i]++
	}
	if err := w.once(senders, store, limits, limits); err != nil {
		return fmt.Errorf("after what was not acknowledged was sent again: %w", err)
	}
	if err := w.verify(name, store, position); err != nil {
		return fmt.Errorf("after a start: %w", err)
	}
	return w.lost(store)
}

// complaints returns the lines of a program's log that say that something is damaged or lost. What was not synced may
// be missing, and it is right to say so.
func complaints(output string) string {
	var bad []string
	for _, line := range strings.Split(output, "\n") {
		lower := strings.ToLower(line)
		said := strings.Contains(line, "[ERROR]") || strings.Contains(lower, "damage") || strings.Contains(lower, "lost") || strings.Contains(lower, "corrupt")
		if said && !strings.Contains(lower, "neither damage nor a loss") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "\n")
}

// verify checks the store, also against the last checkpoint that somebody had seen.
func (w *collectorWork) verify(name, store string, position int64) error {
	if _, err := w.collector([]int{0}, "verify", "--store", store); err != nil {
		return err
	}
	n, _ := slices.BinarySearchFunc(w.signed, position+1, func(s signed, at int64) int { return int(min(max(s.position-at, -1), 1)) })
	if n == 0 {
		return nil
	}
	file, key := name+".checkpoint", name+".key"
	if err := errors.Join(os.WriteFile(file, w.signed[n-1].text, 0o600), os.WriteFile(key, w.public, 0o600)); err != nil {
		return err
	}
	_, err := w.collector([]int{0}, "verify", "--store", store, "--checkpoint", file, "--key", key)
	return err
}

// lost fails when the collector says of a host that something of it is lost.
func (w *collectorWork) lost(store string) error {
	r, err := w.collector([]int{0, 3}, "coverage", "--store", store, "--format", "json")
	if err != nil {
		return err
	}
	for _, line := range bytes.Split(r.Stdout, []byte("\n")) {
		if bytes.Contains(line, []byte(`"state":"lost"`)) || bytes.Contains(line, []byte("damage")) {
			return fmt.Errorf("coverage: %s", line)
		}
	}
	return nil
}

// once fails unless of each sender the first min records are there once, none is twice, and none from max on is.
func (w *collectorWork) once(senders []*sender, store string, min, max []int) error {
	r, err := w.collector([]int{0, 1}, "search", "--store", store, "--no-coverage-note", "--format", "raw")
	if err != nil {
		return err
	}
	seen := make([][]int, len(senders))
	for i, n := range max {
		seen[i] = make([]int, n)
	}
	var want []byte
	for _, line := range bytes.Split(r.Stdout, []byte("\n")) {
		rest, ok := bytes.CutPrefix(line, []byte("node=power"))
		if !ok {
			continue // the collector's own
		}
		id, _, _ := bytes.Cut(rest, []byte(" "))
		i, err1 := strconv.Atoi(string(id))
		n, err2 := strconv.Atoi(string(line[bytes.LastIndexByte(line, '=')+1:]))
		if err1 != nil || err2 != nil || i >= len(seen) || n >= len(seen[i]) {
			return fmt.Errorf("search found what was never sent: %s", line)
		}
		if want = senders[i].record(want[:0], n); !bytes.Equal(want, line) {
			return fmt.Errorf("search found\n%s\nand was sent\n%s", line, want)
		}
		seen[i][n]++
	}
	for i, list := range seen {
		for n, times := range list {
			if times > 1 || times == 0 && n < min[i] {
				return fmt.Errorf("record %d of %s is there %d times (%d were acknowledged, %d sent at most)", n, senders[i].node(), times, min[i], max[i])
			}
		}
	}
	return nil
}
