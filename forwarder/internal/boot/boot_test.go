package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot/boottest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestParamOf(t *testing.T) {
	for line, want := range map[string]boot.Param{
		"":                           boot.Unset,
		"quiet noaudit=1":            boot.Unset,
		"quiet audit=1":              boot.On,
		"audit=on quiet":             boot.On,
		"audit=yes":                  boot.On, // the kernel says so, too
		"audit=0":                    boot.Off,
		"audit=OFF":                  boot.Off,
		"audit=0 audit=1":            boot.Off, // for good
		"audit=1 audit=0":            boot.Off,
		"quiet -- audit=0":           boot.Unset, // init's
		"audit_backlog_limit=8192":   boot.Unset,
		"x=audit=0 audit=1 -- quiet": boot.On,
	} {
		if got := boot.ParamOf(line); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// TestWhyNoAudit: a kernel with audit=0, one without, and a container are told apart.
func TestWhyNoAudit(t *testing.T) {
	h := boottest.New(t, "quiet audit=off")
	says := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
	says(boot.NoAudit(h.Root), "booted with audit=0")
	h.Write("/proc/cmdline", "quiet\n")
	h.Remove("/proc/self/loginuid")
	says(boot.NoAudit(h.Root), "built without audit")
	h.Write("/proc/self/uid_map", "0 100000 65536\n")
	says(boot.Refused(h.Root), "another one (a container)")
	if got := boot.Refused(h.Root); strings.Contains(got, "audit=0") {
		t.Errorf("in a user namespace: %q", got)
	}
	if got := boot.FirstNetworkNamespace(h.Root); got != boot.Yes {
		t.Errorf("the first network namespace: %v", got)
	}
	h.Remove("/proc/sys/net/core/netdev_max_backlog")
	if got := boot.FirstNetworkNamespace(h.Root); got != boot.No {
		t.Errorf("another network namespace: %v", got)
	}
	h.Remove("/proc/sys/net")
	if got := boot.FirstNetworkNamespace(h.Root); got != boot.Unknown {
		t.Errorf("without sysctls: %v", got)
	}
}

func TestNote(t *testing.T) {
	h := boottest.New(t, "")
	notes := boot.Notes{Root: h.Root, Path: boot.DefaultNote}
	read := func() boot.Note {
		t.Helper()
		n, err := notes.Read()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := read(); got != (boot.Note{}) {
		t.Errorf("before anything: %+v", got)
	}
	at := time.Unix(1763600000, 123456789)
	if err := notes.Update(func(n *boot.Note) { n.Said, n.Lost, n.At = true, 8, at }); err != nil {
		t.Fatal(err)
	}
	if err := notes.Enabled(true); err != nil {
		t.Fatal(err)
	}
	h.Write("/proc/uptime", "7200.00 1\n")
	if err := notes.Enabled(false); err != nil { // the first stays
		t.Fatal(err)
	}
	want := boot.Note{Enabling: boot.Switched, Since: time.Hour, Said: true, Lost: 8, At: at}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(filepath.Join(h.Root, boot.DefaultNote))
	if err != nil {
		t.Fatal(err)
	}
	if want := "auditfleet-boot 1 4be22a64-5a2b-4b30-a1c1-2a4d1b1fd2f7 switched 0000003600000000000 said 0000000008 1763600000123456789\n"; string(text) != want {
		t.Errorf("%q, want %q", text, want)
	}
	for name, text := range map[string]string{
		"another boot": strings.Replace(string(text), "4be22a64", "00000000", 1), "half a line": string(text[:60]),
		"zeroes": strings.Repeat("\x00", 120), "empty": "",
	} {
		h.Write(boot.DefaultNote, text)
		if got := read(); got != (boot.Note{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	h.Write(boot.DefaultNote, "root:x:0:0\n")
	if err := notes.Enabled(true); !errors.Is(err, boot.ErrNote) {
		t.Errorf("a file of somebody else's: %v", err)
	}
	h.Remove(boot.DefaultNote)
	if err := os.Symlink("/etc/passwd", filepath.Join(h.Root, boot.DefaultNote)); err != nil {
		t.Fatal(err)
	}
	if err := notes.Enabled(true); err == nil {
		t.Error("a link was followed")
	}
}

// TestNoteByMany: what several programs learn at once is all kept.
func TestNoteByMany(t *testing.T) {
	h := boottest.New(t, "")
	notes := boot.Notes{Root: h.Root, Path: boot.DefaultNote}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := notes.Update(func(n *boot.Note) { n.Lost++ }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := notes.Read(); err != nil || n.Lost != 400 {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestNoteHeld: whoever may read the note can keep its flock for ever, and keeps
// nobody from writing it; what others put in its place is not written to.
func TestNoteHeld(t *testing.T) {
	h := boottest.New(t, "")
	notes := boot.Notes{Root: h.Root, Path: boot.DefaultNote}
	if err := notes.Enabled(true); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.Root, boot.DefaultNote)
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := unix.Flock(int(reader.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	updated := make(chan error, 1)
	go func() { updated <- notes.Update(func(n *boot.Note) { n.Lost = 5 }) }()
	select {
	case err := <-updated:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		_ = unix.Flock(int(reader.Fd()), unix.LOCK_UN)
		t.Fatal("the note waits for one who only reads it")
	}
	if n, err := notes.Read(); err != nil || n.Lost != 5 {
		t.Errorf("%+v, %v", n, err)
	}
	// The lock is nobody else's to open, and not waited for without end.
	info, err := os.Stat(path + ".lock")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if err := notes.Update(func(n *boot.Note) { n.Lost = 6 }); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("with a stopped holder: %v", err)
	}
	if err := errors.Join(lock.Close(), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	var unsafe *fsys.UnsafeError
	if err := notes.Update(func(n *boot.Note) { n.Lost = 6 }); !errors.As(err, &unsafe) {
		t.Errorf("a note that all may write: %v", err)
	}
	if _, err := notes.Read(); !errors.As(err, &unsafe) {
		t.Errorf("a note that all may write is read: %v", err)
	}
}

func TestProcesses(t *testing.T) {
	h := boottest.New(t, "")
	h.Process(70, "a) (b", 2, 10)
	h.Process(80, "sshd", 12, 900)
	h.Process(81, "sshd", 13, 800)
	h.Process(82, "x\x1b[2J", 13, 700)
	h.Process(90, "late", 20, 5000)
	h.Write("/proc/2/stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 18446744073709551615 0 0\n")
	list, err := boot.Processes(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	older := boot.Older(list, 20*time.Second)
	if got, want := boot.Names(older, 9), "systemd, sshd (2), x?[2J, a) (b"; got != want || len(older) != 5 {
		t.Errorf("%d: %q, want %q", len(older), got, want)
	}
	if got, want := boot.Names(older, 2), "systemd, sshd (2), …"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	h.Write("/proc/70/stat", "70 (x S 1\n")
	if _, err := boot.Processes(h.Root); err == nil {
		t.Error("what is no stat was read")
	}
}

// TestThisHost: the files are there and as the kernel has them.
func TestThisHost(t *testing.T) {
	list, err := boot.Processes("")
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	up, err := boot.Uptime("")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.PID == os.Getpid() && (p.Start <= 0 || p.Start > up+time.Second) {
			t.Errorf("%+v, up %v", p, up)
		}
	}
}
