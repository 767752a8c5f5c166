package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Spec describes a guest.
type Spec struct {
	Name   string   // names its console's log
	Image  string   // of Lab.Image; the guest writes to a layer over it
	Memory int      // MiB; by default 512
	Disks  []string // further disks, raw or qcow2 by their names: /dev/vdb and so on
	Wire   string   // a socket; two guests with the same have a network of their own, wireless to all others
	Qemu   []string // further arguments
}

// Guest is one machine: its disks, and qemu while it runs.
type Guest struct {
	lab    *Lab
	spec   Spec
	folder string
	kernel string
	initrd string
	layer  string

	driver  *driver
	ended   chan struct{} // closed when qemu has ended
	process *os.Process
	boots   int
}

// patience is how long a boot, a stop or a command may take: emulation on a busy machine
// is slow, and none of it is a measurement.
const patience = 15 * time.Minute

// Guest makes a machine with a fresh layer over its image, switched off.
func (l *Lab) Guest(ctx context.Context, spec Spec) (*Guest, error) {
	tree, err := l.tree(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := l.Folder(spec.Name)
	if err != nil {
		return nil, err
	}
	if spec.Memory == 0 {
		spec.Memory = 512
	}
	g := &Guest{lab: l, spec: spec, folder: folder, layer: filepath.Join(folder, "layer"),
		kernel: filepath.Join(tree, "kernel"), initrd: filepath.Join(tree, "initrd")}
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", spec.Image, g.layer)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("qemu-img: %w\n%s", err, said)
	}
	return g, nil
}

// Disk makes an empty raw disk of so many MiB for Spec.Disks.
func (l *Lab) Disk(mib int64) (string, error) {
	folder, err := l.Folder("disk")
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "disk.raw")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(file.Truncate(mib<<20), file.Close())
}

// Boot switches the machine on, with further words on the kernel's command line, and
// returns when the driver answers. What comes after early boot may still be starting: Settle.
func (g *Guest) Boot(ctx context.Context, words ...string) error {
	g.boots++
	sockets := map[string]net.Listener{}
	for _, name := range []string{"agent", "console"} {
		path := filepath.Join(g.folder, name)
		_ = os.Remove(path)
		listener, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		defer listener.Close()
		sockets[name] = listener
	}
	if err := g.start(g.arguments(words)); err != nil {
		return err
	}
	g.lab.mu.Lock()
	closed := g.lab.closed
	g.lab.guests = append(g.lab.guests, g)
	g.lab.mu.Unlock()
	if closed {
		g.Kill()
		return errors.New("the lab is closed")
	}
	conns := map[string]net.Conn{}
	for name, listener := range sockets {
		_ = listener.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
		conn, err := listener.Accept()
		if err != nil {
			g.Kill()
			return fmt.Errorf("qemu did not come for %s: %w\n%s", name, err, g.said())
		}
		conns[name] = conn
	}
	g.driver = newDriver(conns["agent"], newConsole(conns["console"], g.consoleLog()))
	return g.up(ctx, "")
}

// up waits until the agent of another boot than that one answers.
func (g *Guest) up(ctx context.Context, before string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := g.driver.booted(ctx, g.ended, before); err != nil {
		return fmt.Errorf("%s did not boot: %w; it said:\n%s%s", g.spec.Name, err, g.BootLog(3000), g.said())
	}
	return nil
}

func (g *Guest) arguments(words []string) []string {
	socket := func(name string) string { return filepath.Join(g.folder, name) }
	args := []string{"-accel", "tcg", "-smp", "1", "-m", fmt.Sprint(g.spec.Memory), "-nodefaults", "-nographic", "-display", "none",
		"-kernel", g.kernel, "-initrd", g.initrd,
		"-append", strings.Join(append([]string{"console=ttyS1 panic=-1 net.ifnames=0 systemd.show_status=1 systemd.default_timeout_start_sec=900"}, words...), " "),
		"-drive", "file=" + g.layer + ",if=virtio,format=qcow2,cache=unsafe",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=" + socket("agent"), "-device", "virtserialport,chardev=agent,name=auditfleet.agent",
		"-chardev", "socket,id=console,path=" + socket("console"), "-serial", "chardev:console", "-serial", "file:" + g.bootLog()}
	for _, disk := range g.spec.Disks {
		format := "raw"
		if strings.HasSuffix(disk, ".qcow2") {
			format = "qcow2"
		}
		args = append(args, "-drive", "file="+disk+",if=virtio,format="+format)
	}
	if g.spec.Wire != "" {
		// Who comes first is the one that listens.
		if _, err := os.Stat(g.spec.Wire); err != nil {
			args = append(args, "-netdev", "stream,id=wire,server=on,addr.type=unix,addr.path="+g.spec.Wire)
			args = append(args, "-device", "virtio-net-pci,netdev=wire,mac=52:54:00:00:00:01")
		} else {
			args = append(args, "-netdev", "stream,id=wire,server=off,addr.type=unix,addr.path="+g.spec.Wire)
			args = append(args, "-device", "virtio-net-pci,netdev=wire,mac=52:54:00:00:00:02")
		}
	}
	return append(args, g.spec.Qemu...)
}

// start runs qemu from a thread that lives as long as it: the kernel then ends qemu when
// this process dies, however it dies.
func (g *Guest) start(args []string) error {
	log, err := os.Create(filepath.Join(g.folder, "qemu.log"))
	if err != nil {
		return err
	}
	cmd := exec.Command("nice", append([]string{"-n", "5", "qemu-system-x86_64"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: ^C ends it by way of Close.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		_ = log.Close()
	}()
	if err := <-started; err != nil {
		return err
	}
	g.process, g.ended = cmd.Process, ended
	return nil
}

// Kill is the end of the machine as by pulling its plug, but that what the guest has
// written is there. It may be called when it does not run.
func (g *Guest) Kill() {
	if g.process == nil {
		return
	}
	_ = g.process.Kill()
	<-g.ended
	if g.driver != nil {
		g.driver.close()
	}
}

// PowerOff stops the machine as systemctl poweroff does.
func (g *Guest) PowerOff(ctx context.Context) error {
	_, err := g.Run(ctx, "systemd-run --quiet --collect systemctl poweroff")
	if err != nil {
		return err
	}
	return g.Off(ctx)
}

// Off waits until the machine is off.
func (g *Guest) Off(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-g.ended:
		g.driver.close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not stop: %w; it said:\n%s", g.spec.Name, ctx.Err(), g.BootLog(3000))
	}
}

// Reboot boots the machine again as systemctl reboot does, with the same command line.
func (g *Guest) Reboot(ctx context.Context) error {
	before := g.driver.boot()
	if _, err := g.Run(ctx, "systemd-run --quiet --collect systemctl reboot"); err != nil {
		return err
	}
	return g.up(ctx, before)
}

// Console is the machine's first serial line, with a login on it; what boots says it on the second, BootLog.
func (g *Guest) Console() *Console { return g.driver.console }

// BootLog is the end of what kernel and systemd said since the machine was switched on.
func (g *Guest) BootLog(n int) string {
	text, _ := os.ReadFile(g.bootLog())
	return string(last(text, n))
}

func (g *Guest) bootLog() string {
	if g.lab.config.Logs == "" {
		return filepath.Join(g.folder, "boot.log")
	}
	return filepath.Join(g.lab.config.Logs, fmt.Sprintf("%s.%d.boot", g.spec.Name, g.boots))
}

func (g *Guest) consoleLog() string {
	if g.lab.config.Logs == "" {
		return ""
	}
	return filepath.Join(g.lab.config.Logs, fmt.Sprintf("%s.%d.console", g.spec.Name, g.boots))
}

// step adds a line to the log of what the guest was asked.
func (g *Guest) step(line string) {
	if g.lab.config.Logs == "" {
		return
	}
	file, err := os.OpenFile(filepath.Join(g.lab.config.Logs, g.spec.Name+".steps"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, _ = fmt.Fprintln(file, line)
		_ = file.Close()
	}
}

// said is what qemu itself has complained of.
func (g *Guest) said() string {
	text, _ := os.ReadFile(filepath.Join(g.folder, "qemu.log"))
	return string(last(text, 2000))
}
