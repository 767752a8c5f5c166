package need

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Terminals skips the test where no pseudo terminal can be had: a program that asks for one itself may wait for ever.
func Terminals(t testing.TB) {
	t.Helper()
	master, tty := terminal(t)
	master.Close()
	tty.Close()
}

func terminal(t testing.TB) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		Missing(t, "no pseudo terminals (a chroot without devpts?): "+err.Error())
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		Missing(t, "no pseudo terminals (a chroot without devpts?): "+err.Error())
	}
	return master, tty
}

// Terminal opens a pseudo terminal with the given number of columns. The returned
// function closes it and returns what was written to it.
func Terminal(t testing.TB, columns uint16) (*os.File, func() string) {
	t.Helper()
	master, tty := terminal(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = text.ReadFrom(master) // EIO once all of the other end is closed
	}()
	var once sync.Once
	end := func() string {
		once.Do(func() { tty.Close(); <-done; master.Close() })
		return strings.ReplaceAll(text.String(), "\r\n", "\n")
	}
	t.Cleanup(func() { end() })
	return tty, end
}
