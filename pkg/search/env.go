package search

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/nss"
)

// withDefaults fills what the caller left open from this machine.
func (e Env) withDefaults() Env {
	if e.Now.IsZero() {
		e.Now = time.Now()
	}
	if e.Location == nil {
		e.Location = time.Local
	}
	e.Now = e.Now.In(e.Location)
	if e.Locale == "" {
		e.Locale = localeFromEnv(os.Getenv)
	}
	if e.Machine == "" {
		e.Machine = uname()
	}
	if e.UserID == nil || e.GroupID == nil {
		accounts := nss.New(nss.Config{})
		if e.UserID == nil {
			e.UserID = accounts.UserID
		}
		if e.GroupID == nil {
			e.GroupID = accounts.GroupID
		}
	}
	if e.Uptime == nil {
		e.Uptime = uptime
	}
	return e
}

// localeFromEnv returns the name of the locale of times: the first of LC_ALL,
// LC_TIME and LANG that is set to something.
func localeFromEnv(getenv func(string) string) string {
	for _, name := range []string{"LC_ALL", "LC_TIME", "LANG"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return "C"
}

// uname returns the machine's architecture as `uname -m` says it.
func uname() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return string(u.Machine[:bytes.IndexByte(append(u.Machine[:], 0), 0)])
}

func uptime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, fmt.Errorf("read uptime: %w", err)
	}
	first, _, _ := strings.Cut(string(b), " ")
	sec, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read uptime: %w", err)
	}
	return time.Duration(sec * float64(time.Second)), nil
}

// LocaleName returns the locale in which times are written: e.Locale, or that of the
// process's environment when e.Locale is empty.
func (e Env) LocaleName() string { return e.withDefaults().Locale }
