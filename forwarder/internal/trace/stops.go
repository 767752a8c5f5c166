package trace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long a stopped program is left alone before it is looked at again: ^Z
// stops this process along with it, and fg lets both go on.
const settle = 20 * time.Millisecond

// followStop stops this process when the program has stopped and the terminal is theirs:
// the shell that started us waits for us, and would never be told. Once the shell lets us
// go on, so does the program, with the terminal where it has a process group of its own.
// Without a terminal nobody waits so, and nothing is done. Called at each SIGCHLD.
func (t *tracing) followStop() {
	pid := t.cmd.Process.Pid
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		return
	}
	if time.Sleep(settle); !isStopped(pid) {
		return
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	defer tty.Close()
	own := unix.Getpgrp()
	theirs, err := unix.Getpgid(pid)
	if err != nil {
		return
	}
	if front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err != nil || front != own && front != theirs {
		return // in the background already
	}
	if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
		return
	}
	// The shell says go on. Only who has the terminal may give it away.
	if front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err == nil && front == own && theirs != own {
		err = unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, theirs)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return
		}
	}
	target := pid
	if theirs != own {
		target = -theirs
	}
	_ = unix.Kill(target, unix.SIGCONT) // an error: it has just ended
}

// isStopped reports whether a process is.
func isStopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := bytes.Cut(b, []byte(") "))
	return err == nil && ok && bytes.HasPrefix(rest, []byte("T"))
}
