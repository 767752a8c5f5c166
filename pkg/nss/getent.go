package nss

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxName   = 256
	maxOutput = 32 << 20 // of one helper: a group's line has all its members
)

// errNoHelper is returned when nsswitch.conf names sources that can't be asked.
var errNoHelper = errors.New("/etc/nsswitch.conf names sources beside files, and there is no getent to ask them: install it (Debian: libc-bin)")

// askable reports whether a name can be one of an account, and getent takes it
// for one: it reads what begins like a number as an id.
func askable(name string) bool {
	if !validName(name) {
		return false
	}
	_, err := strconv.ParseInt(strings.TrimSpace(name), 0, 64)
	return err != nil && !strings.ContainsAny(name[:1], " +-")
}

func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == ':' || c == 0x7f {
			return false
		}
	}
	return true
}

// askSystem asks systemd-userdb's socket where that is the one source beside the
// files, and getent otherwise.
func (d *directory) askSystem(database int, keys []key) ([]answer, error) {
	if d.onlySystemd(keys[0]) {
		if answers, err := d.askUserdb(database, keys); err == nil {
			return answers, nil
		}
	}
	return d.askGetent(database, keys)
}

func (d *directory) onlySystemd(k key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[k]
	return e != nil && len(e.plan.others) == 1 && e.plan.others[0] == "systemd"
}

func (d *directory) getent() (string, error) {
	for _, path := range d.cfg.getents {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errNoHelper
}

// askGetent asks getent(1) for all keys at once. It runs with an environment of
// its own, and is ended with all it started when it takes too long or this program
// dies.
func (d *directory) askGetent(database int, keys []key) ([]answer, error) {
	path, err := d.getent()
	if err != nil {
		return nil, err
	}
	args := []string{databases[database], "--"}
	for _, k := range keys {
		if k.name != "" {
			args = append(args, k.name)
		} else {
			args = append(args, strconv.FormatUint(uint64(k.id), 10))
		}
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.cfg.limit)
	defer cancel()
	// The signal at this program's death is the one at the death of the thread that
	// started the helper.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("ask getent: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("ask getent: %w", err)
	}
	// What the helper started may hold the pipe when it is gone.
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	lines, readErr := readAccounts(out, len(keys))
	stop()
	if readErr != nil {
		_ = cmd.Cancel() // it may be gone already
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s %s gave no answer within %s: %w", path, databases[database], d.cfg.limit, ctx.Err())
	case readErr != nil:
		return nil, fmt.Errorf("%s %s: %w", path, databases[database], readErr)
	}
	const someMissing = 2 // of getent's exit codes
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != someMissing) {
		return nil, fmt.Errorf("%s %s: %w", path, databases[database], err)
	}
	return match(keys, lines, err == nil)
}

// match gives each key its line. all says that every key is to have one.
func match(keys []key, lines []answer, all bool) ([]answer, error) {
	answers := make([]answer, len(keys))
	missing := 0
	for i, k := range keys {
		answers[i].state = absent
		for _, l := range lines {
			// A source may know a name by more than one spelling.
			if k.name != "" || l.id == k.id {
				answers[i] = l
				break
			}
		}
		if answers[i].state == absent {
			missing++
		}
	}
	if all != (missing == 0) {
		return nil, errors.New("the answer does not fit the question")
	}
	return answers, nil
}

// readAccounts reads lines of NAME:PASSWORD:ID:…; what follows the id may be
// longer than is kept.
func readAccounts(r io.Reader, most int) ([]answer, error) {
	limited := &io.LimitedReader{R: r, N: maxOutput}
	b := bufio.NewReaderSize(limited, 4096)
	var lines []answer
	for {
		head, err := b.ReadSlice('\n')
		if len(head) == 0 && err == io.EOF {
			if limited.N == 0 {
				return nil, errors.New("the answer has no end")
			}
			return lines, nil
		}
		f := bytes.SplitN(bytes.TrimSuffix(head, []byte("\n")), []byte(":"), 4)
		if len(f) < 3 || !validName(string(f[0])) {
			return nil, fmt.Errorf("a line that is no account: %.40q", head)
		}
		id, perr := strconv.ParseUint(string(f[2]), 10, 32)
		if perr != nil || len(lines) == most {
			return nil, fmt.Errorf("a line that is no account, or one that was not asked for: %.40q", head)
		}
		lines = append(lines, answer{found, uint32(id), string(f[0])})
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = b.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
}
