package head

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const childEnv = "AUDITFLEET_HEAD_CHILD"

// hasty tables make for many commits to be killed in, small segments for many in
// which records of open events are carried.
func hasty(j *journal.Options, o *Options) {
	o.TableBytes, o.MaxAge, o.EventTimeout = 60<<10, 5*time.Millisecond, time.Minute
	j.SegmentBytes = 12 << 10
}

// childMain is the collector that is killed: lines "conn seq raw" in, lines
// "conn seq" out when stored.
func childMain() bool {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return false
	}
	r, err := openRig(dir, hasty)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for lines := 0; ; {
		text, err := in.ReadString('\n')
		if err != nil {
			_ = r.close() // stdin ended: a clean stop
			os.Exit(0)
		}
		if lines++; lines%100 == 0 { // kills hit the beginning of a partition, too
			go func() {
				if err := r.st.Rotate(context.Background()); err != nil {
					fmt.Println("error", err)
				}
			}()
		}
		f := strings.SplitN(strings.TrimSuffix(text, "\n"), " ", 3)
		conn, _ := strconv.ParseUint(f[0], 10, 64)
		seq, _ := strconv.ParseUint(f[1], 10, 32)
		b := &journal.Batch{Conn: conn, Sender: from(peer(int(conn % 100))), Managed: true, Received: time.Now(),
			Records: []journal.Record{{Seq: uint32(seq), Raw: []byte(f[2])}}}
		err = r.j.Submit(context.Background(), b, func(err error) {
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(out, "%d %d\n", conn, seq)
			out.Flush()
		})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
}

// killed is one run of the child.
type killed struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	acks  chan [2]uint64
}

func startChild(t *testing.T, dir string) *killed {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), childEnv+"="+dir)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	k := &killed{cmd: c, stdin: in, acks: make(chan [2]uint64, 1<<16)}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		_ = c.Process.Kill()
		t.Fatalf("the collector does not start: %q, %v, %v", line, err, c.Wait())
	}
	go func() {
		defer close(k.acks)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return // a line that the kill cut off is none
			}
			var a [2]uint64
			if _, err := fmt.Sscan(line, &a[0], &a[1]); err == nil {
				k.acks <- a
			}
		}
	}()
	return k
}

// kdev is a sender: an own forwarder with a window, or a stock one.
type kdev struct {
	id         int
	stock      bool
	slow       bool // its events have sixty records
	base, next int  // records acknowledged, sent on this connection
	attempt    uint32
	inflight   map[uint64]int // sequence number → record
	conn       uint64
}

// slowRecords are so many that segments go by while such an event is open.
const slowRecords = 60

func (d *kdev) raw(i int) string {
	// Events of three records, of which the last ends it, and single ones.
	host := fmt.Sprintf("dev%d", d.id)
	if d.slow {
		typ := "PATH"
		if i%slowRecords == slowRecords-1 {
			typ = "PROCTITLE"
		}
		return line(host, i/slowRecords, i/slowRecords+1, typ, fmt.Sprintf("n=%d", i))
	}
	serial := i/4*2 + 1
	switch i % 4 {
	case 0:
		return line(host, i/4, serial, "SYSCALL", fmt.Sprintf("arch=c000003e syscall=2 success=yes pid=%d n=%d", i, i))
	case 1:
		return line(host, i/4, serial, "PATH", fmt.Sprintf("item=0 name=\"/f/%d\" n=%d", i, i))
	case 2:
		return line(host, i/4, serial, "PROCTITLE", fmt.Sprintf("proctitle=\"x\" n=%d", i))
	default:
		return line(host, i/4, serial+1, "USER_LOGIN", fmt.Sprintf("pid=1 n=%d", i))
	}
}

func (d *kdev) send(w io.Writer) error {
	window := 32
	if d.slow {
		window = 2
	}
	if d.stock {
		window = 1
	}
	for d.next < d.base+window {
		seq := uint64(journal.OwnNumbering | uint32(d.next+1))
		if d.stock {
			d.attempt++
			seq = uint64(d.attempt)
		}
		d.inflight[seq] = d.next
		if _, err := fmt.Fprintf(w, "%d %d %s\n", d.conn, seq, d.raw(d.next)); err != nil {
			return err
		}
		d.next++
	}
	return nil
}

// killAfter is the most records that a run acknowledges before it is killed.
const killAfter = 600

// TestKill9 kills a collector under load again and again. Everything that was
// acknowledged is there once, events whole, in what the survivor answers.
func TestKill9(t *testing.T) {
	t.Parallel()
	killAgain(t, need.Rounds(25, 4))
}

func killAgain(t *testing.T, kills int) {
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var devs []*kdev
	for i := range 8 {
		devs = append(devs, &kdev{id: i, stock: i == 4 || i == 5, slow: i >= 6, inflight: map[uint64]int{}})
	}
	conns, carried := uint64(0), 0
	// Some kills come too early for a record to be carried.
	for run := 0; run < kills || carried == 0 && run < 8*kills; run++ {
		k := startChild(t, dir)
		for i, d := range devs {
			conns++
			d.conn = conns*100 + uint64(i)
			d.next = d.base
			clear(d.inflight)
		}
		// It is killed when it has acknowledged so many records and a moment has passed, however
		// long that takes: a time alone is too short for a machine with much else to do.
		left := 1 + rng.IntN(killAfter)
		var deadline <-chan time.Time
		w := bufio.NewWriter(k.stdin)
		live := true
		for live {
			for _, d := range devs {
				if err := d.send(w); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatalf("run %d: %v", run, err)
			}
			select {
			case <-deadline:
				live = false
			case a, ok := <-k.acks:
				if !ok {
					t.Fatalf("run %d: the collector ended by itself: %v", run, k.cmd.Wait())
				}
				acked(t, devs, a)
				if left--; left == 0 {
					deadline = time.After(time.Duration(rng.IntN(5000)) * time.Microsecond)
				}
			}
		}
		if err := k.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = k.cmd.Wait()
		for a := range k.acks { // what was said before the kill counts
			acked(t, devs, a)
		}
		rep, err := journal.Verify(journal.Options{Dir: filepath.Join(dir, "journal")}, nil, nil)
		if err != nil || len(rep.Bad) > 0 {
			t.Fatalf("run %d: %v, %v", run, err, rep)
		}
		carried += len(rep.Carried)
	}
	total := 0
	r := mustRig(t, dir, hasty)
	for _, d := range devs {
		total += d.base
		d.verify(t, r)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	parts, err := filepath.Glob(filepath.Join(dir, "partitions", "*.db"))
	if err != nil || len(parts) < 2 {
		t.Errorf("%d partitions, %v: no rotation was hit", len(parts), err)
	}
	t.Logf("%d kills, %d records acknowledged, %d partitions, %d carried records met", kills, total, len(parts), carried)
	if carried == 0 {
		t.Error("no record was carried")
	}
	if total < kills*10 {
		t.Errorf("only %d records in %d runs: the test shows nothing", total, kills)
	}
}

func acked(t *testing.T, devs []*kdev, a [2]uint64) {
	t.Helper()
	d := devs[a[0]%100]
	i, ok := d.inflight[a[1]]
	if !ok || a[0] != d.conn {
		t.Fatalf("an ACK for what was not sent: %v", a)
	}
	if i != d.base {
		t.Fatalf("device %d: ACK of record %d, of %d expected", d.id, i, d.base)
	}
	delete(d.inflight, a[1])
	d.base++
}

// verify sends what is in flight once more, ends the last event and looks.
func (d *kdev) verify(t *testing.T, r *rig) {
	t.Helper()
	d.next, d.conn = d.base, uint64(90_000_000+d.id)
	end := (d.base + 40) / 4 * 4
	if d.slow {
		end = (d.base + 2*slowRecords) / slowRecords * slowRecords
	}
	for ; d.next < end; d.next++ {
		seq := journal.OwnNumbering | uint32(d.next+1)
		if d.stock {
			d.attempt++
			seq = d.attempt
		}
		r.put(t, &journal.Batch{Conn: d.conn, Sender: from(peer(int(d.conn % 100))), Managed: true, Received: storetest.Start,
			Records: []journal.Record{{Seq: seq, Raw: []byte(d.raw(d.next))}}})
	}
	r.settle(t)
	found := map[string]int{}
	host := fmt.Sprintf("dev%d", d.id)
	err := r.h.Scan(context.Background(), &query.Query{Nodes: []string{host}}, func(ev *event.Event) error {
		want := 3
		if ev.Serial%2 == 0 {
			want = 1
		}
		if d.slow {
			want = slowRecords
		}
		if len(ev.Records) != want {
			t.Errorf("%s: event %d has %d records, want %d", host, ev.Serial, len(ev.Records), want)
		}
		for i := range ev.Records {
			found[string(ev.Records[i].Raw)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range end {
		if n := found[d.raw(i)]; n != 1 {
			t.Errorf("%s: record %d of %d (acknowledged %d) is there %d times", host, i, end, d.base, n)
		}
	}
	if len(found) != end {
		t.Errorf("%s: %d records, want %d", host, len(found), end)
	}
	for _, h := range r.h.Hosts() {
		if h.Name == host && h.Records != uint64(end) {
			t.Errorf("%s: counted %d records, want %d", host, h.Records, end)
		}
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// treeOf is the folder's files with a hash of each.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
