package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// sealedCollector is one that signs its log.
type sealedCollector struct {
	*grpcCollector
	key, public string
}

func startSealed(t *testing.T, pki, key string) *sealedCollector {
	t.Helper()
	r, err := harness.Run(time.Minute, binaries(t).Collector, "seal", "init", "--key", key, "--name", "hub1")
	if err != nil || r.Code != 0 {
		t.Fatalf("seal init: %v %+v", err, r)
	}
	public := ""
	for line := range strings.Lines(string(r.Stdout)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "hub1+") {
			public = line
		}
	}
	if public == "" {
		t.Fatalf("no public key in %s", r.Stdout)
	}
	return &sealedCollector{startGRPCWith(t, pki, "--seal-key", key, "--seal-interval", "1s"), key, public}
}

// sign has everything that came stored and signed, and returns how many leaves that are.
func (c *grpcCollector) sign() int64 {
	c.t.Helper()
	r, err := c.Command(time.Minute, "seal", "checkpoint", "--now")
	if err != nil || r.Code != 0 {
		c.t.Fatalf("seal: %v %s%s", err, r.Stdout, r.Stderr)
	}
	signed, err := checkpoint.Parse(r.Stdout)
	if err != nil {
		c.t.Fatalf("%v: %s", err, r.Stdout)
	}
	return signed.Size
}

// witnessHost is a forwarder that follows a log.
type witnessHost struct {
	t        *testing.T
	pki, dir string
	args     []string
	*harness.Proc
	n int
}

func newWitnessHost(t *testing.T, pki string, args ...string) *witnessHost {
	h := &witnessHost{t: t, pki: pki, dir: t.TempDir(), args: args}
	writeFile(t, h.log(), "")
	return h
}

func (h *witnessHost) log() string   { return h.dir + "/audit.log" }
func (h *witnessHost) spool() string { return h.dir + "/spool" }

func (h *witnessHost) start(server string) {
	h.t.Helper()
	args := append([]string{binaries(h.t).Forwarder, "run", "--remote", server, "--transport", "grpc", "--spool", h.spool(), "--source", h.log(), "--follow", "--log-file", "none"}, tlsArgs(h.pki, "web1")...)
	p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: append(args, h.args...)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(p.Kill)
	h.Proc = p
}

func (h *witnessHost) stop() {
	h.t.Helper()
	if err := h.Terminate(time.Minute); err != nil {
		h.t.Error(err)
	}
}

// write adds a record to the log, and waits until a collector has it.
func (h *witnessHost) write(c *grpcCollector) {
	h.t.Helper()
	h.n++
	f, err := os.OpenFile(h.log(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	now := time.Now()
	line := "node=web1 type=USER_LOGIN msg=audit(" + strconv.FormatInt(now.Unix(), 10) + ".000:" + strconv.Itoa(h.n) + "): pid=1 uid=0 auid=0 ses=1 msg='op=login acct=\"w" + strconv.Itoa(h.n) + "\" res=success'\n"
	if _, err := f.WriteString(line); err != nil {
		h.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		h.t.Fatal(err)
	}
	need.Wait(h.t, "the record is there", func() bool {
		r, err := c.Search(time.Minute, "--format", "raw", "-m", "USER_LOGIN")
		return err == nil && strings.Contains(string(r.Stdout), `acct="w`+strconv.Itoa(h.n)+`"`)
	})
}

type witnessList struct {
	Held []struct {
		Store, Verified string
		Size            int64
	}
	Findings []struct {
		ID, Op string
		Alarm  bool
	}
}

func (h *witnessHost) witness() (l witnessList, code int) {
	h.t.Helper()
	r, err := harness.Run(time.Minute, binaries(h.t).Forwarder, "witness", "--spool", h.spool(), "--format", "json")
	if err == nil {
		err = json.Unmarshal(r.Stdout, &l)
	}
	if err != nil {
		h.t.Fatalf("%v %s%s", err, r.Stdout, r.Stderr)
	}
	return l, r.Code
}

// keeps waits until a checkpoint of at least so many leaves is kept.
func (h *witnessHost) keeps(size int64) {
	h.t.Helper()
	need.Wait(h.t, "a checkpoint is kept", func() bool {
		l, _ := h.witness()
		return len(l.Held) == 1 && l.Held[0].Size >= size
	})
}

// finds waits until something is found and said in the stream.
func (h *witnessHost) finds(c *grpcCollector, op string) {
	h.t.Helper()
	if !harness.Poll(time.Minute, func() bool {
		l, code := h.witness()
		return code == 3 && len(l.Findings) > 0 && l.Findings[len(l.Findings)-1].Op == op
	}) {
		l, _ := h.witness()
		h.t.Fatalf("%s is not found: %+v\n%s", op, l, h.Output())
	}
	need.Wait(h.t, op+" is in the stream", func() bool {
		r, err := c.Search(time.Minute, "--format", "raw", "-m", "DAEMON_ERR")
		return err == nil && strings.Contains(string(r.Stdout), "op="+op+" store=")
	})
	if !strings.Contains(h.Output(), "op="+op) {
		h.t.Errorf("the log does not say %s:\n%s", op, h.Output())
	}
}

// TestWitness: with real programs, a collector's checkpoints reach a host and are kept over kill -9;
// then its store is put back to an older copy, and its administrator accepts that.
func TestWitness(t *testing.T) {
	t.Parallel()
	pki, key := pkiOf(t, "web1"), filepath.Join(t.TempDir(), "seal.key")
	c := startSealed(t, pki, key)
	keys := filepath.Join(t.TempDir(), "keys")
	writeFile(t, keys, c.public+"\n")
	h := newWitnessHost(t, pki, "--seal-keys", keys)
	h.start(c.addr())
	h.write(c.grpcCollector)
	size := c.sign()
	h.stop()
	h.start(c.addr())
	h.keeps(size)
	backup := filepath.Join(t.TempDir(), "backup")
	if r, err := c.Command(time.Minute, "backup", backup); err != nil || r.Code != 0 {
		t.Fatalf("backup: %v: %+v", err, r)
	}
	for range 2 {
		h.write(c.grpcCollector)
		size = c.sign()
	}
	h.Kill()
	h.start(c.addr())
	h.keeps(size)
	h.Kill()
	if l, _ := h.witness(); len(l.Held) != 1 || l.Held[0].Verified != "seal_keys" || l.Held[0].Size < size {
		t.Errorf("after a kill, of %d leaves: %+v", size, l)
	}
	h.start(c.addr())
	file := filepath.Join(t.TempDir(), "checkpoint")
	r, err := harness.Run(time.Minute, binaries(t).Forwarder, "witness", "export", "--spool", h.spool())
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %+v", err, r)
	}
	writeFile(t, file, string(r.Stdout))

	// An older store is put back; the copy of the checkpoint beside the key, too.
	if err := c.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	if r, err := harness.Run(time.Minute, binaries(t).Collector, "verify", "--store", c.o.Store, "--checkpoint", file, "--key", c.public); err != nil || r.Code != 0 {
		t.Errorf("the store against the checkpoint: %v %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	if err := os.RemoveAll(c.o.Store); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(backup, "store"), c.o.Store)
	beside, err := filepath.Glob(key + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range beside {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := harness.Run(time.Minute, binaries(t).Collector, "verify", "--store", c.o.Store, "--checkpoint", file, "--key", c.public); err != nil || r.Code != 1 {
		t.Errorf("an older store against the checkpoint: %v %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	c.Collector = startCollector(t, c.o)
	h.finds(c.grpcCollector, "seal-rewind")
	d, err := harness.Run(time.Minute, binaries(t).Forwarder, "doctor", "--spool", h.spool(), "--format", "json")
	if err != nil || !strings.Contains(string(d.Stdout), "seal-rewind") {
		t.Errorf("doctor says nothing of it: %v\n%s", err, d.Stdout)
	}
	if r, err := harness.Run(time.Minute, binaries(t).Forwarder, "witness", "accept", "--all", "--spool", h.spool()); err != nil || r.Code != 0 {
		t.Errorf("%v %+v", err, r)
	}
	h.stop()
	h.start(c.addr())
	h.write(c.grpcCollector)
	c.sign()
	h.stop()
	if l, code := h.witness(); code != 0 {
		t.Errorf("what is accepted is found still, or something else: %d %+v", code, l)
	}
}

// TestWitnessOfAFork: a store is copied and goes on at two collectors with one key; a host goes from one to
// the other. By first use of the key.
func TestWitnessOfAFork(t *testing.T) {
	t.Parallel()
	pki, key := pkiOf(t, "web1"), filepath.Join(t.TempDir(), "seal.key")
	a := startSealed(t, pki, key)
	h := newWitnessHost(t, pki)
	h.start(a.addr())
	h.write(a.grpcCollector)
	a.sign()
	h.stop()
	if err := a.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	b := startGRPCWith(t, pki, "--seal-key", key, "--seal-interval", "1s")
	if err := b.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.o.Store); err != nil {
		t.Fatal(err)
	}
	copyTree(t, a.o.Store, b.o.Store)
	a.Collector = startCollector(t, a.o)
	h.start(a.addr())
	size := int64(0)
	for range 2 {
		h.write(a.grpcCollector)
		size = a.sign()
	}
	h.stop()
	h.start(a.addr())
	h.keeps(size)
	h.stop()
	beside, err := filepath.Glob(key + ".*")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, path := range beside { // the copy is on another machine
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	b.Collector = startCollector(t, b.o)
	other := newWitnessHost(t, pki)
	other.start(b.addr())
	other.n = 100
	for range 30 { // until it has as many leaves, of others
		other.write(b)
		if b.sign() > size+1 {
			break
		}
	}
	other.stop()
	h.start(b.addr())
	h.finds(b, "seal-fork")
	h.stop()
}
