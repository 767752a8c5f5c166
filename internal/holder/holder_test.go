package holder

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/locks"); err != nil {
		t.Skip("no /proc: nobody can say who holds a lock")
	}
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("no flock (util-linux)")
	}
	path := filepath.Join(t.TempDir(), "lock")
	if pid, words := Of(path); pid != 0 || words != "another process" {
		t.Errorf("of no file: %d %q", pid, words)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	pid, words := Of(path)
	if pid == 0 {
		t.Skip("the lock is of another PID namespace, or of a filesystem with other numbers: " + words)
	}
	if pid != os.Getpid() || !strings.Contains(words, "-test.") {
		t.Errorf("of this process: %d %q", pid, words)
	}
	f.Close()
	// flock takes it and ends. The shell has the open file, and then its child, which outlives it.
	cmd := exec.Command("sh", "-c", `exec 9>"$1"; flock 9; sleep 1000 & echo $!; read -r _`, "sh", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(line, &child); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	input.Close()
	_ = cmd.Wait() // the read ends with the input: exit code 1
	pid, words = Of(path)
	if pid != child || !strings.Contains(words, "left behind by") {
		t.Errorf("of a process that has ended: %d %q, and its child is %d", pid, words, child)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	const locks = `1: FLOCK  ADVISORY  WRITE 708 00:13:99 0 EOF
2: POSIX  ADVISORY  WRITE 5 fe:00:7 0 EOF
3: FLOCK  ADVISORY  WRITE 41 fe:00:7 0 EOF
3: -> FLOCK  ADVISORY  WRITE 42 fe:00:7 0 EOF
`
	pid, waiting := owner(locks, "fe:00:7")
	if pid != 41 || !waiting[42] || len(waiting) != 1 {
		t.Errorf("%d has it, %v wait", pid, waiting)
	}
}
