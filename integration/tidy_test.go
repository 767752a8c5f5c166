package integration

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestTidy has a command end by itself, by ^C and by SIGTERM, and looks that tidy.sh leaves nothing of it: neither what is deaf to
// a signal to its process group, nor what nobody may remove, nor a mount.
func TestTidy(t *testing.T) {
	t.Parallel()
	need.Tool(t, "bash")
	script, err := filepath.Abs("tidy.sh")
	if err != nil {
		t.Fatal(err)
	}
	// Its orphan is of another session. It undoes what it did when it is told to end.
	const command = `mkdir -m 0500 "$TMPDIR/shut" "$TMPDIR/mounted"
mount -t tmpfs none "$TMPDIR/mounted" 2>/dev/null
trap 'echo undone >"$1"; exit 3' INT TERM
setsid sleep 1000 &
echo $! "$TMPDIR"
[ "$2" = by-itself ] || while :; do sleep 0.05; done
exit 7`
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		group  bool // the whole process group is told, as a terminal does
		code   int
	}{
		{"by-itself", 0, false, 7},
		{"interrupted", syscall.SIGINT, true, 130},
		{"told by its parent", syscall.SIGTERM, false, 143},
		{"told as a group", syscall.SIGTERM, true, 143},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			undone := filepath.Join(t.TempDir(), "undone")
			cmd := exec.Command("sh", script, "sh", "-c", command, "sh", undone, tt.name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			pid, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
			orphan, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			to := cmd.Process.Pid
			if tt.group {
				to = -to
			}
			if tt.signal != 0 {
				if err := syscall.Kill(to, tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if _, err := os.Stat(undone); (err == nil) != (tt.signal != 0) {
				t.Errorf("what it undoes when it is told to end: %v", err)
			}
			if _, err := os.Lstat(dir); err == nil {
				t.Errorf("%s is left", dir)
			}
			need.Wait(t, "the orphan is gone", func() bool {
				words, _ := os.ReadFile("/proc/" + pid + "/cmdline") // a zombie has none
				return len(words) == 0 || syscall.Kill(orphan, 0) != nil
			})
		})
	}
}

// TestTidyWhereNothingRuns: a folder for temporary files in which no program can be run, as hardened hosts have /tmp, is not taken.
func TestTidyWhereNothingRuns(t *testing.T) {
	t.Parallel()
	need.Tool(t, "bash")
	dir := t.TempDir()
	need.Tmpfs(t, dir, "noexec")
	script, err := filepath.Abs("tidy.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", script, "sh", "-c", `echo "$TMPDIR"`)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "TMPDIR="+dir)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	place := strings.TrimSpace(string(out))
	if err != nil || place == "" || strings.HasPrefix(place, dir) || !strings.Contains(said.String(), "programs can't be run in "+dir+" ") {
		t.Errorf("%v, %q, %s", err, place, said.String())
	}
	for _, folder := range []string{dir, cmd.Dir} {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, %v", folder, left, err)
		}
	}
}
