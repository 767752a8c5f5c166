package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// writePID says who we are, as the stock daemon does: a line with the process id.
func (a *Agent) writePID() error {
	if a.cfg.PIDFile == "" {
		return nil
	}
	if err := fsys.ReplaceShared(a.cfg.PIDFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644, false); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}

// removePID takes the file away if it is ours: whoever took the kernel's records
// over has written his own.
func (a *Agent) removePID() error {
	if a.cfg.PIDFile == "" {
		return nil
	}
	b, err := fsys.ReadRegular(a.cfg.PIDFile, 4096)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
		return nil
	}
	return errors.Join(err, os.Remove(a.cfg.PIDFile))
}
