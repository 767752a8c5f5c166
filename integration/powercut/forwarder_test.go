//go:build power

package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// hosts are two forwarders whose files are on one device, and the collector of both on another.
type hosts struct {
	bins   *harness.Binaries
	w      *collectorWork
	dev    *Device
	pki    string
	kernel *harness.Kernel
	grpc   string // the collector's address
	when   moments
	made   *synced
	cutoff atomic.Int64 // records that spools had and the collector had not, over all cuts
}

func tlsArgs(pki, name string) []string {
	return []string{"--tls-ca", filepath.Join(pki, "ca.crt"), "--tls-cert", filepath.Join(pki, name+".crt"), "--tls-key", filepath.Join(pki, name+".key")}
}

// auditor and follower are the command lines of the forwarders.
func (h *hosts) auditor(remote string, more ...string) []string {
	dir := filepath.Join(h.dev.Dir, "audit")
	return slices.Concat([]string{h.bins.Forwarder, "run", "--config", filepath.Join(dir, "auditd.conf"), "--transport", "grpc", "--remote", remote,
		"--spool", filepath.Join(dir, "spool"), "--state", filepath.Join(dir, "serial"), "--report", "none", "--pid-file", "none"}, tlsArgs(h.pki, auditing), more)
}

func (h *hosts) follower(remote string) []string {
	dir := filepath.Join(h.dev.Dir, "follow")
	return []string{h.bins.Forwarder, "run", "--source", filepath.Join(dir, "log"), "--follow", "--remote", remote, "--node", following, "--log-file", "none", "--spool", filepath.Join(dir, "spool"), "--report", "none"}
}

// prepare makes both devices, what the forwarders read, and the certificates.
func prepare(t *testing.T) *hosts {
	dir := folder(t)
	bins, err := harness.Build(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	h := &hosts{bins: bins, pki: filepath.Join(dir, "pki")}
	if err := os.Mkdir(h.pki, 0o700); err != nil {
		t.Fatal(err)
	}
	ca := testca.New(t, h.pki)
	ca.Issue(h.pki, nil, "collector", "localhost")
	ca.Issue(h.pki, nil, auditing)
	device := func(name string) *Device {
		d, err := NewDevice(filepath.Join(dir, name), diskSize)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	h.dev = device("host")
	h.w = &collectorWork{bins: bins, dev: device("log"), dir: dir}
	if h.grpc, h.w.grpc, err = h.listen(); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"audit", "follow"} {
		if err := os.MkdirAll(filepath.Join(h.dev.Dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	conf := "log_file = " + filepath.Join(h.dev.Dir, "audit/log/audit.log") + "\nlog_format = raw\nname_format = user\nname = " + auditing + "\nmax_log_file = 1\nnum_logs = 99\nmax_log_file_action = rotate\nflush = incremental\nfreq = 20\n" +
		"space_left_action = ignore\nadmin_space_left_action = ignore\ndisk_full_action = ignore\ndisk_error_action = ignore\n"
	if err := errors.Join(os.Mkdir(filepath.Join(h.dev.Dir, "audit/log"), 0o700), os.WriteFile(filepath.Join(h.dev.Dir, "audit/auditd.conf"), []byte(conf), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(h.dev.Dir, "follow/log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil { // no cut is before that
		t.Fatal(err)
	}
	h.made = &synced{f: f}
	t.Cleanup(func() { f.Close() }) // before its filesystem is unmounted
	return h
}

// listen chooses an address for gRPC, and returns the collector's flags for it.
func (h *hosts) listen() (addr string, flags []string, err error) {
	port, err := need.FreePort()
	if err != nil {
		return "", nil, err
	}
	text := strconv.Itoa(port)
	return net.JoinHostPort("localhost", text), append([]string{"--grpc", net.JoinHostPort("127.0.0.1", text)}, tlsArgs(h.pki, "collector")...), nil
}

// TestForwarder: one forwarder is the kernel's audit daemon, writes a log and ships by gRPC, another follows a
// file and ships by the audisp-remote protocol; the collector is away for a while, and all are killed and
// stopped meanwhile. Wherever the power of all is cut then, what was synced of the file is at the
// collector once after they were started again, no record between others is missing, and nobody says
// that anything is damaged or lost.
func TestForwarder(t *testing.T) {
	h := prepare(t)
	h.w.start(t)
	from, records := h.dev.Position(), 0
	if !t.Run("Work", func(t *testing.T) { // others may have the kernel's audit afterwards
		h.kernel = openKernel(t)
		// What other tests had the kernel lose was before the forwarder's first start, as it says.
		_ = exec.Command("auditctl", "--reset-lost").Run()
		lost := h.lost(t)
		if lost != 0 {
			t.Fatalf("the kernel counts %d lost records still", lost)
		}
		records = h.work(t, setting(t, "POWER_SECONDS", 30))
		if n := h.lost(t) - lost; n != 0 {
			t.Fatalf("the kernel lost %d records: the test shows nothing", n)
		}
	}) || records == 0 {
		t.Skip("the forwarders did not work")
	}
	to := h.dev.Position()
	h.w.c.Kill()
	h.made.f.Close()
	for _, d := range []*Device{h.dev, h.w.dev} {
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	var logs [2]*Log
	var disks [2]*Disk
	for i, d := range []*Device{h.dev, h.w.dev} {
		log, err := d.Log()
		if err != nil {
			t.Fatal(err)
		}
		base, err := d.Base()
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		logs[i], disks[i] = log, NewDisk(log, base)
	}
	t.Logf("%d records by the kernel, %d by the file; %d writes and flushes logged on the host (%d MB), %d at the collector", records, h.made.at(1<<62), len(logs[0].Entries), to>>20, len(logs[1].Entries))
	cuts := plan(t, logs[0], logs[0].At(from), logs[0].At(to), setting(t, "POWER_CUTS", 220))
	for i := range cuts {
		if at, ok := h.when.before(logs[0].Entries[cuts[i].Entries-1].End); ok && at >= logs[0].Entries[0].End {
			cuts[i].Entries = logs[0].At(at)
		}
	}
	also := func(c Cut) Cut { // the collector's power fails at the same moment
		at, ok := h.when.second(logs[0].Entries[c.Entries-1].End)
		if !ok {
			at = 1 << 62
		}
		rng := rand.New(rand.NewPCG(c.Seed, 2))
		return Cut{Entries: logs[1].At(at), Kind: Kind(rng.IntN(Kinds)), Seed: rng.Uint64()}
	}
	eachCut(t, h.w.dir, disks[0], cuts, func(c Cut, name string) error {
		_, _, err := disks[1].Make(also(c), name+".collector")
		return err
	}, func(c Cut, name, mnt string) error {
		if err := h.check(name, mnt, logs[0].Entries[c.Entries-1].End); err != nil {
			return fmt.Errorf("the collector's disk cut at %v: %w", also(c), err)
		}
		return nil
	})
	t.Logf("%d records came out of spools after the cuts", h.cutoff.Load())
	if h.cutoff.Load() == 0 {
		t.Error("no spool had anything: the test shows little")
	}
}

// lost is how many records the kernel has lost since it booted.
func (h *hosts) lost(t *testing.T) int {
	t.Helper()
	st, err := h.kernel.Status()
	if err != nil {
		t.Fatal(err)
	}
	return st["lost"]
}

// work has both forwarders at work for some seconds, and returns how many records came by the kernel.
func (h *hosts) work(t *testing.T, seconds int) int {
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { defer close(watched); h.when.watch(ctx, h.dev, h.w.dev) }()
	defer func() { cancel(); <-watched }()
	var procs [2]*harness.Proc
	launch := func(i int) {
		var err error
		if i == 0 {
			procs[i], err = startForwarder(h.kernel, nil, h.auditor(h.grpc)...)
		} else {
			procs[i], err = startForwarder(nil, nil, h.follower(h.w.c.Addr())...)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(procs[i].Kill)
	}
	launch(0)
	launch(1)
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_AUDIT)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	a := &audited{fd: fd}
	for tick := range seconds * 50 {
		for range 10 {
			if err := a.send(); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.made.append(h.dev.Position, 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		switch second := tick / 50; {
		case tick%50 != 49:
		case second%15 == 3: // the collector is away; spools hold what comes
			if err := h.w.c.Terminate(patience); err != nil {
				t.Fatal(err)
			}
		case second%15 == 9:
			h.w.start(t)
		case second%15 == 7:
			procs[1].Kill()
			launch(1)
		case second%15 == 12:
			h.arrived(t, a.next-1)
			procs[0].Kill()
			launch(0)
		case second%15 == 14:
			if err := procs[0].Terminate(patience); err != nil {
				t.Fatal(err)
			}
			launch(0)
		}
	}
	for _, p := range procs {
		p.Kill()
	}
	return a.next
}

// arrived waits until the collector has the record n of the kernel's.
func (h *hosts) arrived(t *testing.T, n int) {
	t.Helper()
	if !harness.Poll(patience, func() bool {
		seen, err := h.have(filepath.Join(h.w.dev.Dir, "store"), auditing)
		return err == nil && seen[n]
	}) {
		t.Fatalf("record %d did not come", n)
	}
}

// have returns which records of a host a store has.
func (h *hosts) have(store, node string) (map[int]bool, error) {
	r, err := h.w.collector([]int{0, 1}, "search", "--store", store, "--no-coverage-note", "--format", "raw", "-n", node)
	if err != nil {
		return nil, err
	}
	return numbers(r.Stdout, node)
}

// check starts what was on both disks again.
func (h *hosts) check(name, mnt string, position int64) (err error) {
	log := name + ".log"
	if err := os.Mkdir(log, 0o700); err != nil {
		return err
	}
	if err := Mount(name+".collector", log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Unmount(log)) }()
	local, holed, err := localLog(filepath.Join(mnt, "audit/log/audit.log"))
	if err != nil {
		return err
	}
	if n := gap(local); n >= 0 && !holed {
		return fmt.Errorf("the local log has %d records, but not %d", len(local), n)
	}
	store := filepath.Join(log, "store")
	if _, err := h.w.collector([]int{0}, "verify", "--store", store); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(mnt, "follow/log"))
	if err != nil {
		return err
	}
	file, err := numbers(text[:bytes.LastIndexByte(text, '\n')+1], "")
	if err != nil {
		return err
	}
	if n := h.made.at(position); len(file) < n {
		return fmt.Errorf("the filesystem lost what was synced: %d records of %d", len(file), n)
	}
	before, err := h.have(store, auditing)
	if err != nil {
		return err
	}
	addr, flags, err := h.listen()
	if err != nil {
		return err
	}
	c, err := harness.StartCollector(h.w.bins, h.w.options(log, flags...))
	if err != nil {
		return err
	}
	defer c.Kill()
	torn, err := h.again(c, addr, mnt, len(file))
	if err != nil {
		return fmt.Errorf("%w\nthe collector:\n%s", err, c.Output())
	}
	if err := c.Terminate(patience); err != nil {
		return err
	}
	if bad := complaints(c.Output()); bad != "" {
		return fmt.Errorf("the collector complains:\n%s", bad)
	}
	for _, node := range []string{auditing, following} {
		seen, err := h.have(store, node)
		if err != nil {
			return err
		}
		// Of what the kernel's spool had not synced any may be missing: nobody can read it again.
		if n := gap(seen); n >= 0 && !(torn && node == auditing) {
			return fmt.Errorf("%s: the collector has %d records in the end, but not %d", node, len(seen), n)
		}
		if node == auditing {
			h.cutoff.Add(int64(len(seen) - len(before)))
			for n := range before {
				if !seen[n] {
					return fmt.Errorf("record %d is gone", n)
				}
			}
		} else if len(seen) < len(file) {
			return fmt.Errorf("%s: the collector has %d records in the end, of %d in the file", node, len(seen), len(file))
		}
	}
	if _, err := h.w.collector([]int{0}, "verify", "--store", store); err != nil {
		return err
	}
	return h.w.lost(store)
}

// again starts both forwarders again, until the collector has what they had. torn says that the power cut has left a hole
// in what the spool of the kernel's records had not synced.
func (h *hosts) again(c *harness.Collector, addr, mnt string, records int) (torn bool, err error) {
	there := [][2]string{{mnt, h.dev.Dir}} // what was read is remembered by where it was
	drain, err := startForwarder(nil, there, h.auditor(addr, "--drain-only", "--drain-timeout", "5m")...)
	if err != nil {
		return false, err
	}
	defer drain.Kill()
	follow, err := startForwarder(nil, there, h.follower(c.Addr())...)
	if err != nil {
		return false, err
	}
	defer follow.Kill()
	if err := drain.Wait(patience); err != nil {
		return false, err
	}
	if !harness.Poll(patience, func() bool {
		seen, err := h.have(c.Store, following)
		return follow.Exited() || err != nil || len(seen) >= records
	}) {
		return false, fmt.Errorf("the forwarder that follows does not send all; its output:\n%s", follow.Output())
	}
	if err := follow.Terminate(patience); err != nil {
		return false, err
	}
	for _, p := range []*harness.Proc{drain, follow} {
		if bad := complaints(p.Output()); bad != "" {
			return false, fmt.Errorf("a forwarder complains:\n%s", p.Output())
		}
	}
	return strings.Contains(drain.Output(), "had not synced when the power went"), nil
}
