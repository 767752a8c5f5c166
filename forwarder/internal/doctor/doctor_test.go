package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot/boottest"
	"github.com/auditfleet/auditfleet/forwarder/internal/doctor"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// host is a made host with its kernel, and how it is examined.
type host struct {
	*boottest.Host
	t *testing.T
	k *fakekernel.Kernel
	d doctor.Host
}

// healthy makes a host that nothing is wrong with.
func healthy(t *testing.T) *host {
	h := &host{Host: boottest.New(t, "quiet audit=1 audit_backlog_limit=8192"), t: t, k: fakekernel.New()}
	h.k.SetStatus(func(s *kernel.Status) { s.Enabled, s.PID, s.BacklogLimit = 1, 310, 8192 })
	h.Process(310, "forwarder", 3, 50)
	h.Write("/etc/audit/auditd.conf", auditdConf)
	h.Write("/etc/audit/audisp-remote.conf", "remote_server = collector\nport = 60\n")
	h.Write("/etc/audit/rules.d/audit.rules", "-w /etc/passwd -p wa -k id\n-w /etc/shadow -p wa -k id\n")
	h.Write("/etc/systemd/journald.conf", "[Journal]\n")
	h.Write("/etc/systemd/system/multi-user.target.wants/auditfleet-forwarder.service", "")
	h.folder("/var/log/audit", 0o700)
	h.folder("/var/spool/auditfleet", 0o700)
	h.load("-w /etc/passwd -p wa -k id", "-w /etc/shadow -p wa -k id")
	h.d = doctor.Host{
		Root: h.Root, Dial: func() (*kernel.Conn, error) { return h.k.Conn(1), nil },
		Connect: func(context.Context, string) error { return nil },
		Lookup:  func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil },
		Clock:   func() (bool, error) { return true, nil },
		Space:   func(string) (uint64, uint64, error) { return 8 << 30, 20 << 30, nil },
		Name:    func() (string, error) { return "web1", nil }, Now: func() time.Time { return now },
		Config: "/etc/audit/auditd.conf", RemoteConfig: "/etc/audit/audisp-remote.conf", RulesDir: "/etc/audit/rules.d",
		Spool: "/var/spool/auditfleet", SpoolSize: 64 << 20, Note: boot.DefaultNote,
	}
	return h
}

const auditdConf = "log_file = /var/log/audit/audit.log\nname_format = hostname\nspace_left = 75\nadmin_space_left = 50\nmax_log_file = 8\nnum_logs = 5\n"

func (h *host) folder(path string, mode fs.FileMode) {
	h.t.Helper()
	full := filepath.Join(h.Root, path)
	if err := errors.Join(os.MkdirAll(full, 0o755), os.Chmod(full, mode)); err != nil {
		h.t.Fatal(err)
	}
}

// load has the kernel hold rules.
func (h *host) load(lines ...string) {
	h.t.Helper()
	conn := h.k.Conn(1)
	defer conn.Close()
	held, err := conn.Rules()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range held {
		if err := conn.DeleteRule(r); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, line := range lines {
		ops, err := rules.ParseArgs(strings.Fields(line), rules.SystemEnv())
		if err != nil {
			h.t.Fatal(err)
		}
		for _, op := range ops.Ops {
			b, err := op.Rule.Marshal()
			if err != nil {
				h.t.Fatal(err)
			}
			if err := conn.AddRule(b); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// aged makes a file of that size that was written that long ago.
func (h *host) aged(path string, size int, age time.Duration) {
	h.t.Helper()
	h.Write(path, strings.Repeat("x", size))
	if err := os.Chtimes(filepath.Join(h.Root, path), now.Add(-age), now.Add(-age)); err != nil {
		h.t.Fatal(err)
	}
}

// broken are hosts with what is wrong with each; their outputs stand in testdata and in
// docs/doctor.md.
var broken = []struct {
	name  string
	exit  int
	spoil func(h *host)
}{
	{"booted with audit=0", 3, func(h *host) {
		h.Write("/proc/cmdline", "quiet audit=0\n")
		h.d.Dial = func() (*kernel.Conn, error) { return nil, fmt.Errorf("socket: %w", unix.EPROTONOSUPPORT) }
	}},
	{"freshly installed", 3, func(h *host) {
		h.Write("/proc/cmdline", "quiet\n")
		h.Process(400, "sshd", 9, 40)
		h.k.SetStatus(func(s *kernel.Status) { s.Enabled, s.PID, s.BacklogLimit = 0, 0, 64 })
		h.load()
		h.Remove("/etc/audit/audisp-remote.conf")
		h.Remove("/etc/systemd/system")
		h.Write("/etc/systemd/journald.conf", "[Journal]\nAudit=no\n")
		h.d.Name = func() (string, error) { return "localhost.localdomain", nil }
	}},
	{"audited too late, beside a stock auditd", 1, func(h *host) {
		h.Write("/proc/cmdline", "quiet\n")
		h.Write("/proc/uptime", "95.00 1\n")
		if err := (boot.Notes{Root: h.Root, Path: boot.DefaultNote}).Enabled(true); err != nil {
			h.t.Fatal(err)
		}
		h.Process(310, "auditd", 95, 50)
		h.Process(400, "sshd", 9, 40)
		h.Process(401, "sshd", 10, 30)
		h.Process(500, "nginx", 120, 90)
		h.k.SetStatus(func(s *kernel.Status) { s.Lost, s.BacklogLimit, s.BacklogWaitTimeActual = 8, 64, 120 })
		h.load("-w /etc/passwd -p wa -k id", "-w /etc/hosts -p wa -k net")
		h.Write("/proc/net/netlink", "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 9 250 00000001 0 0 0 2 0 17\n")
		h.Process(250, "systemd-journal", 2, 60)
		h.d.Clock = func() (bool, error) { return false, nil }
	}},
	{"collector away, disks full", 3, func(h *host) {
		h.Write("/etc/audit/audisp-remote.conf", "remote_server = collector, backup.example\nport = 60\n")
		h.d.Connect = func(context.Context, string) error { return unix.ECONNREFUSED }
		h.d.Lookup = func(_ context.Context, name string) ([]string, error) {
			if name == "collector" {
				return []string{"192.0.2.1"}, nil
			}
			return nil, errors.New("no such host")
		}
		h.d.Space = func(string) (uint64, uint64, error) { return 40 << 20, 20 << 30, nil }
		h.d.SpoolSize = 10 << 20
		h.aged("/var/spool/auditfleet/0000000000000001.seg", 9<<20, 26*time.Hour)
		h.aged("/var/spool/auditfleet/0000000000000002.seg", 300<<10, time.Minute)
		h.aged("/var/spool/auditfleet/0000000000000000.seg.corrupt", 100, 26*time.Hour)
		h.folder("/var/log/audit", 0o755)
	}},
	{"locked, clock wrong, configuration broken", 3, func(h *host) {
		h.load("-a never,task")
		h.k.SetStatus(func(s *kernel.Status) { s.Enabled, s.PID, s.Backlog = 2, 0, 8000 })
		h.Write("/etc/audit/auditd.conf", auditdConf+"max_log_fil = 8\n")
		h.Write("/etc/audit/rules.d/audit.rules", "-w /etc/passwd -p wa -k id\n-a always,exit -S opnat\n")
		h.d.Now = func() time.Time { return time.Unix(3600, 0).UTC() }
	}},
}

func TestBrokenHosts(t *testing.T) {
	page, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			h := healthy(t)
			b.spoil(h)
			list := doctor.Examine(t.Context(), h.d)
			var out strings.Builder
			if err := doctor.WriteText(&out, list, false); err != nil {
				t.Fatal(err)
			}
			if code := doctor.ExitCode(list); code != b.exit {
				t.Errorf("exit code %d, want %d", code, b.exit)
			}
			file := "testdata/" + strings.NewReplacer(" ", "-", ",", "", "=", "").Replace(b.name) + ".txt"
			golden.Compare(t, file, out.String())
			if block := fmt.Sprintf("```console\n$ forwarder doctor; echo $?     # %s\n%s%d\n```\n", b.name, out.String(), b.exit); !strings.Contains(string(page), block) {
				t.Errorf("docs/doctor.md does not have:\n%s", block)
			}
			if !slices.IsSortedFunc(list, func(a, b doctor.Finding) int { return b.Weight - a.Weight }) {
				t.Error("not the heaviest first")
			}
			for _, f := range list {
				if strings.Contains(f.What+f.Fix, h.Root) || (f.State == doctor.OK) != (f.Weight == 0) || f.State != doctor.OK && f.State != doctor.Unknown && f.Fix == "" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestHealthyHost: nothing is wrong, and nothing was changed.
func TestHealthyHost(t *testing.T) {
	h := healthy(t)
	before := h.files()
	list := doctor.Examine(t.Context(), h.d)
	for _, f := range list {
		if f.State != doctor.OK {
			t.Errorf("%+v", f)
		}
	}
	if doctor.ExitCode(list) != 0 || len(list) < 12 {
		t.Errorf("%d findings", len(list))
	}
	if diff := cmp.Diff(before, h.files()); diff != "" {
		t.Errorf("changed: %s", diff)
	}
	for _, typ := range h.k.Requests()[3:] { // those before are the test's own
		if typ != kernel.MsgGet && typ != kernel.MsgListRules {
			t.Errorf("request %d", typ)
		}
	}
	var out strings.Builder
	if err := doctor.WriteJSON(&out, list); err != nil {
		t.Fatal(err)
	}
	var back []doctor.Finding
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, back); diff != "" {
		t.Error(diff)
	}
}

// files lists a host's files with what is in them.
func (h *host) files() map[string]string {
	h.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(h.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// TestWithoutRights: what can't be checked is said so, and is no fault.
func TestWithoutRights(t *testing.T) {
	h := healthy(t)
	h.k.Fail(kernel.MsgGet, unix.EPERM)
	list := doctor.Examine(t.Context(), h.d)
	i := slices.IndexFunc(list, func(f doctor.Finding) bool { return f.Check == "audit" })
	if i < 0 || list[i].State != doctor.Unknown || list[i].Fix != "run it as root" || doctor.ExitCode(list) != 0 {
		t.Errorf("%+v", list)
	}
	h.k.Fail(kernel.MsgGet, unix.ECONNREFUSED)
	h.Write("/proc/self/uid_map", "0 100000 65536\n")
	list = doctor.Examine(t.Context(), h.d)
	if i := slices.IndexFunc(list, func(f doctor.Finding) bool { return f.Check == "audit" }); i < 0 || list[i].State != doctor.Unknown || !strings.Contains(list[i].What, "a container") {
		t.Errorf("%+v", list)
	}
}

// TestOddFiles: what stands where a file should be is named, nothing waits for a FIFO, and
// a link's own mode is not taken for the file's.
func TestOddFiles(t *testing.T) {
	h := healthy(t)
	for _, name := range []string{"/etc/audit/rules.d/fifo.rules", "/etc/audit/audisp-remote.conf", "/etc/systemd/journald.conf"} {
		h.Remove(name)
		if err := unix.Mkfifo(filepath.Join(h.Root, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.Remove("/etc/audit/auditd.conf")
	h.Write("/etc/audit/elsewhere.conf", auditdConf)
	if err := os.Symlink("elsewhere.conf", filepath.Join(h.Root, "/etc/audit/auditd.conf")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range doctor.Examine(t.Context(), h.d) {
		if f.State != doctor.OK && f.Check != "name" && f.Check != "log_space" { // unread with auditd.conf
			got = append(got, fmt.Sprintf("%s %s: %s", f.State, f.What, f.Fix))
		}
	}
	slices.Sort(got)
	want := []string{
		"fail /etc/audit/auditd.conf: is a symbolic link (put the file itself there): put the file itself there",
		"fail /etc/audit/audisp-remote.conf: is not a regular file: put a regular file there, or take it away",
		"unknown not checked: /etc/systemd/journald.conf: is not a regular file: ",
		"warn /etc/audit/rules.d/fifo.rules: the file can't be read: is not a regular file: its rules are missing: put a regular file there, or take it away",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSpoolInUse: a forwarder has its spool open. What is acknowledged does not wait,
// however old and large the file is that has room for more; what is not does.
func TestSpoolInUse(t *testing.T) {
	h := healthy(t)
	dir := filepath.Join(h.Root, "/var/spool/auditfleet")
	sp, _, err := spool.Open(spool.Options{Dir: dir, MaxBytes: 1 << 30, Now: func() time.Time { return now.Add(-3 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	h.d.SpoolSize = 17 << 20
	examine := func(acked uint64) string {
		t.Helper()
		if err := errors.Join(sp.Append(nil, []byte("a record"), []byte("another")), sp.Ack(acked), sp.Sync()); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Chtimes(filepath.Join(dir, e.Name()), now.Add(-2*time.Hour), now.Add(-2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		list := doctor.Examine(t.Context(), h.d)
		f := list[slices.IndexFunc(list, func(f doctor.Finding) bool { return f.Check == "spool" })]
		return fmt.Sprint(f.State, " ", f.What)
	}
	if got := examine(2); !strings.HasPrefix(got, "ok 4.") {
		t.Errorf("all is acknowledged: %s", got)
	}
	if got, want := examine(3), "warn records have waited for 3h0m0s: 1 are not acknowledged"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestSilentServers: many servers that don't answer are tried at once, and take the time
// of one; more than are tried at once do, too.
func TestSilentServers(t *testing.T) {
	const servers = 20
	h := healthy(t)
	var list []string
	for i := range servers {
		list = append(list, fmt.Sprintf("s%d.example:60", i))
	}
	h.d.Remote = list
	var came sync.WaitGroup
	came.Add(servers)
	all := make(chan struct{})
	go func() {
		came.Wait()
		close(all)
	}()
	h.d.Connect = func(ctx context.Context, _ string) error {
		came.Done()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	reached := 0
	for _, f := range doctor.Examine(t.Context(), h.d) {
		if f.Check != "collector" {
			continue
		}
		if want := list[reached] + " takes connections"; f.State != doctor.OK || f.What != want {
			t.Errorf("%+v, want %s", f, want)
		}
		reached++
	}
	if reached != servers {
		t.Errorf("%d servers, want %d", reached, servers)
	}

	// All share the time of one: it ends for each of these when it does for the first.
	h.d.Remote = make([]string, 500)
	for i := range h.d.Remote {
		h.d.Remote[i] = fmt.Sprintf("s%d.example:60", i)
	}
	var mu sync.Mutex
	ends := map[time.Time]bool{}
	h.d.Connect = func(ctx context.Context, _ string) error {
		end, ok := ctx.Deadline()
		mu.Lock()
		defer mu.Unlock()
		ends[end] = ok
		return errors.New("away")
	}
	doctor.Examine(t.Context(), h.d)
	if len(ends) != 1 {
		t.Errorf("%d deadlines: %v", len(ends), ends)
	}
}

// A finding of several lines stays one entry of the text.
func TestTextOfManyLines(t *testing.T) {
	var out strings.Builder
	if err := doctor.WriteText(&out, []doctor.Finding{{Check: "configuration", State: doctor.Fail, What: "a.conf:2: one\na.conf:3: two", Fix: "mend"}}, false); err != nil {
		t.Fatal(err)
	}
	const want = "fail    configuration: a.conf:2: one\n        a.conf:3: two\n        fix: mend\n1 at fault, 0 to be warned of, 0 right, 0 not checked\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
