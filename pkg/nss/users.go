package nss

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Account is one of passwd(5).
type Account struct {
	Name string
	ID   uint32
}

// mostAccounts bounds a list of them, which a directory of a large organisation may have.
const mostAccounts = 1 << 20

// Users returns the accounts of this machine in the order in which the C library lists
// them: of all sources that nsswitch.conf names, as far as they list theirs (SSSD does so
// only where it is told to). With the error come those of the local file.
func (s *System) Users() ([]Account, error) {
	local := readUsers(readFile(s.cfg.files[passwd]))
	if len(s.loaded().plans[passwd].others) == 0 {
		return local, nil
	}
	path, err := s.directory.getent()
	if err != nil {
		return local, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, databases[passwd])
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out := bounded{stop: cancel}
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return local, errors.Join(errors.New(path+" passwd"), err)
	}
	return readUsers(out.text.Bytes()), nil
}

// bounded keeps what a helper writes, up to a limit, and then ends it: one that ignores
// SIGPIPE would go on.
// The buffer is a field: io.Copy would find a ReadFrom without a limit.
type bounded struct {
	text bytes.Buffer
	stop func()
}

var errTooMuch = errors.New("the answer has no end")

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxOutput {
		b.stop()
		return 0, errTooMuch
	}
	return b.text.Write(p)
}

// readUsers reads lines of NAME:PASSWORD:ID:GID:… and leaves out what are none.
func readUsers(text []byte) (users []Account) {
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 4 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], "+") || strings.HasPrefix(f[0], "-") {
			continue
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		if users = append(users, Account{f[0], uint32(id)}); len(users) == mostAccounts {
			break
		}
	}
	return users
}
