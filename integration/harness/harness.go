// Package harness starts, feeds, disturbs and measures the real programs that the
// integration tests and benchmarks use: this module's two binaries, the stock auditd,
// audisp-remote and ausearch, the kernel's audit, a link with delay, and logs of real
// records in any amount. Only the tests and benchmarks below integration import it; it
// imports pkg and proto only.
//
// Everything that it starts is a child of the calling process and ends with it.
package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Binaries holds the paths of the programs that the module builds.
type Binaries struct {
	Forwarder string
	Collector string
	Work      string // makes audit events, see integration/cmd/work
}

// Build compiles the programs into dir as releases are built, without cgo, or with the
// race detector. If AUDITFLEET_BIN is set, it takes forwarder and collector from that
// folder instead.
func Build(dir string, race bool) (*Binaries, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	bins := &Binaries{
		Forwarder: filepath.Join(dir, "forwarder"),
		Collector: filepath.Join(dir, "collector"),
		Work:      filepath.Join(dir, "work"),
	}
	targets := []string{"./forwarder", "./collector"}
	if ready := os.Getenv("AUDITFLEET_BIN"); ready != "" {
		if ready, err = filepath.Abs(ready); err != nil {
			return nil, err
		}
		bins.Forwarder, bins.Collector = filepath.Join(ready, "forwarder"), filepath.Join(ready, "collector")
		targets = nil
	}
	if err := goBuild(root, dir, false, "./integration/cmd/work"); err != nil {
		return nil, err
	}
	if targets != nil {
		if err := goBuild(root, dir, race, targets...); err != nil {
			return nil, err
		}
	}
	return bins, nil
}

// BuildCollector compiles the collector with build tags into dir, and returns where it is.
func BuildCollector(dir, tags string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return filepath.Join(dir, "collector"), goBuild(root, dir, false, "-tags="+tags, "./collector")
}

func goBuild(root, dir string, race bool, targets ...string) error {
	args := []string{"build", "-o", dir + "/"}
	cgo := "CGO_ENABLED=0"
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, targets...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(targets, " "), err, out)
	}
	return nil
}

// ModuleRoot finds the folder of go.mod at or above the working directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return "", fmt.Errorf("no go.mod at or above the working directory: run it inside the module")
		}
		dir = filepath.Dir(dir)
	}
}

// listening says whether a socket listens on port, without connecting to it: a
// connection would be a client to the server, and leave records behind.
func listening(port int) bool {
	want := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Fields(line)
			if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
				return true
			}
		}
	}
	return false
}

// Poll calls ok every few milliseconds until it returns true or limit has passed.
func Poll(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); ; {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// writeConf writes a file in the stock `key = value` grammar, mode 0640 as the
// stock programs demand.
func writeConf(path string, order []string, values map[string]string) error {
	var b strings.Builder
	done := map[string]bool{}
	for _, key := range order {
		if v, ok := values[key]; ok && v != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, v)
			done[key] = true
		}
	}
	for key, v := range values {
		if !done[key] && v != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, v)
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o640); err != nil {
		return err
	}
	return os.Chmod(path, 0o640)
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
