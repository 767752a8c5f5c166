// Package need checks what a test needs from the machine: root, the kernel's audit, a
// stock tool. If it is missing, the test is skipped with the reason, or fails with
// AUDITFLEET_REQUIRE=1 (which CI sets, because a skipped test there would prove nothing).
// The package also contains what tests of many packages share: a pseudo terminal, a
// buffer, a wait. Any package's tests may import it.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/internal/holder"
)

// kernelLock is held by every test, of any package, that touches the kernel's
// audit state: the kernel has one audit daemon and one rule list.
const kernelLock = "/run/auditfleet-kernel-test.lock"

// Missing ends the test because this machine lacks something: it skips the test with the
// reason, or fails it where no test may be skipped.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("AUDITFLEET_REQUIRE") == "1" {
		t.Fatalf("AUDITFLEET_REQUIRE=1, but %s", reason)
	}
	tell("AUDITFLEET_SKIPPED", t.Name()+"\t"+strings.Join(strings.Fields(reason), " "))
	t.Skip(reason)
}

// tell appends a line to the file that the environment names. go test prints nothing of a package that passes, so
// gotest.sh has tests say in this way what whoever runs them has to know.
func tell(variable, line string) {
	name := os.Getenv(variable)
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// Root skips the test unless it runs as uid 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "not root")
	}
}

// privateMounts are the tools that tests run in a mount namespace of their own, for
// the paths of their files are fixed.
var privateMounts = []string{"auditd", "audisp-remote", "audisp-syslog", "unshare"}

// mountNamespace says why no process with mounts of its own can be started, "" if one
// can. In a chroot, unshare -m fails: its root is no mount.
var mountNamespace = sync.OnceValue(func() string {
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		return fmt.Sprintf("no mount namespace can be made (in a chroot?): unshare -m: %v %s", err, strings.TrimSpace(string(out)))
	}
	return ""
})

func privateMount(t testing.TB, tool string) {
	t.Helper()
	if slices.Contains(privateMounts, tool) && os.Geteuid() == 0 {
		if why := mountNamespace(); why != "" {
			Missing(t, why)
		}
	}
}

// Stock returns the path of a stock audit tool. It skips the test if the tool is not
// installed (apt-get install auditd audispd-plugins) or cannot be run in the way tests
// run it.
func Stock(t testing.TB, tool string) string {
	t.Helper()
	privateMount(t, tool)
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, tool)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	if path, err := exec.LookPath(tool); err == nil {
		return path
	}
	Missing(t, "the stock tool "+tool+" is not installed: apt-get install auditd audispd-plugins strace")
	return ""
}

// Tool returns the path of a program that does not belong to audit, such as perl. It
// skips the test if the program is not installed.
func Tool(t testing.TB, name string) string {
	t.Helper()
	privateMount(t, name)
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "there is no "+name+" on this machine")
	}
	return path
}

// Tmpfs mounts a tmpfs with the given options ("size=24m"; or "noexec" alone) on dir, an existing
// directory, and unmounts it when the test ends.
func Tmpfs(t testing.TB, dir, options string) {
	t.Helper()
	Root(t)
	flags := uintptr(0)
	if options == "noexec" { // is none of tmpfs's own
		flags, options = syscall.MS_NOEXEC, ""
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		Missing(t, "no tmpfs can be mounted: "+err.Error())
	}
	mounted.Store(dir, nil)
	t.Cleanup(func() {
		mounted.Delete(dir)
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// mounted are the folders on which Tmpfs has mounted, for the end of the process by a signal.
var mounted sync.Map

// OnSignal has undo run and ends the process when it is told to end (Ctrl-C, timeout), which no test's cleanup
// hears of. What Tmpfs mounted is unmounted, too. TestMain calls it first; stop gives the signals back.
func OnSignal(undo func()) (stop func()) {
	// go test, which reads what is printed, may be gone first. Ignored, it would be ignored by the programs of tests, too.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, told := <-signals; !told {
			return
		}
		mounted.Range(func(dir, _ any) bool {
			_ = syscall.Unmount(dir.(string), syscall.MNT_DETACH)
			return true
		})
		undo()
		os.Exit(1)
	}()
	return func() {
		signal.Stop(pipes)
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// NoRules ends the test if rules were loaded before it, because they belong to somebody
// else.
func NoRules(t testing.TB, loaded int) {
	t.Helper()
	if loaded != 0 {
		Missing(t, strconv.Itoa(loaded)+" audit rules are loaded on this machine: they are not disturbed")
	}
}

// Kernel skips the test unless this process may configure the kernel's audit
// (CAP_AUDIT_CONTROL in the initial user namespace). It takes the machine-wide lock of
// kernel tests and holds it until the test ends.
func Kernel(t testing.TB) {
	t.Helper()
	Root(t)
	if !initialUserNamespace() {
		Missing(t, "not in the initial user namespace")
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_AUDIT)
	if err != nil {
		Missing(t, "no NETLINK_AUDIT socket: "+err.Error())
	}
	syscall.Close(fd)
	f, err := lockFile(kernelLock, syscall.LOCK_EX, func() {
		// Who is of the same go test is no news: its tests of the kernel take turns.
		if pid, who := holder.Of(kernelLock); pid == 0 || parent(pid) != os.Getppid() {
			tell("AUDITFLEET_SAY", t.Name()+" waits for "+kernelLock+", which "+who+" has")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
}

// lockFile takes the lock on the file of that name, also when somebody removed
// the file and made it anew while this waited: the lock of a file that has no
// name any more keeps nobody out. It calls waits before it waits.
func lockFile(name string, how int, waits func()) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
			waits()
			err = syscall.Flock(int(f.Fd()), how)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if named, err := os.Stat(name); err == nil && os.SameFile(held, named) {
			return f, nil
		}
		f.Close()
	}
}

// parent is the process that started the other one, 0 where that can't be told.
func parent(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	words := strings.Fields(after)
	if len(words) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(words[1])
	return n
}

func initialUserNamespace() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") == "0 0 4294967295"
}
