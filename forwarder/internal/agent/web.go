package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// web serves /metrics and /healthz.
type web struct {
	stop   chan struct{} // closed by stopServing
	joined sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ln     net.Listener
	server *http.Server
}

// listenAgain is how often an address that could not be had is tried.
const listenAgain = 2 * time.Second

// openHTTP takes the address. One that can't be had now (in use, perhaps by the
// instance before us) costs the metrics for a while and nothing else; one that is none
// is an error.
func (a *Agent) openHTTP() error {
	ln, err := net.Listen("tcp", a.cfg.HTTP)
	var sys *os.SyscallError
	switch {
	case err == nil:
		a.web.ln = ln
	case errors.As(err, &sys):
		a.cfg.Logger.Warn("no metrics for now: the address can't be had and is tried again every 2 s; give --http another one if it is somebody else's", "error", err)
	default:
		return fmt.Errorf("--http: %w", err)
	}
	a.web.stop = make(chan struct{})
	return nil
}

// serve answers /metrics and /healthz, if an address was given.
func (a *Agent) serve() {
	w := &a.web
	if w.stop == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.cfg.Metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text := "ok\n"
		if why := a.whyUnwell(); why != "" {
			text = why + "\n"
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, text) // the client's loss
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: a.cfg.Logger.Named("http").StandardLogger(nil),
	}
	server := w.server
	w.joined.Go(func() {
		ln := a.listening()
		if ln == nil {
			return
		}
		if err := server.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.cfg.Logger.Error("the metrics server has ended", "error", err)
		}
	})
}

// listening waits for the address to be had; nil: stopServing was called before.
func (a *Agent) listening() net.Listener {
	w := &a.web
	w.mu.Lock()
	ln := w.ln
	w.mu.Unlock()
	tick := time.NewTicker(listenAgain)
	defer tick.Stop()
	for ln == nil {
		select {
		case <-w.stop:
			return nil
		case <-tick.C:
		}
		var err error
		if ln, err = net.Listen("tcp", a.cfg.HTTP); err != nil {
			continue
		}
		a.cfg.Logger.Info("the address for metrics can be had now", "address", ln.Addr().String())
		w.mu.Lock()
		w.ln = ln
		w.mu.Unlock()
	}
	return ln
}

// whyUnwell says what /healthz answers 503 for, "" when all is well. Any goroutine may
// call it once Open has returned.
func (a *Agent) whyUnwell() string {
	if why := a.src.unready(); why != "" {
		return why
	}
	if a.ship != nil {
		if why := a.ship.spool.Away(); why != "" {
			return "the spool was removed, renamed or replaced by another program and can't be put back; what waits is gone when this program ends: " + why
		}
	}
	return ""
}

// HTTPAddr returns the address at which the metrics are served, "" when they are not.
func (a *Agent) HTTPAddr() string {
	a.web.mu.Lock()
	defer a.web.mu.Unlock()
	if a.web.ln == nil {
		return ""
	}
	return a.web.ln.Addr().String()
}

func (a *Agent) stopServing() error {
	w := &a.web
	if w.stop == nil {
		return nil
	}
	close(w.stop)
	w.mu.Lock()
	ln, server := w.ln, w.server
	w.mu.Unlock()
	var err error
	switch {
	case server != nil:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			err = server.Close()
		}
		w.joined.Wait()
	case ln != nil:
		err = ln.Close()
	}
	w.mu.Lock()
	w.stop, w.ln, w.server = nil, nil, nil
	w.mu.Unlock()
	return err
}
