package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
)

// Nobody subscribes, which is mosquitto's best case: it acknowledges and has
// nothing to keep. It never syncs before an acknowledgement.
const mosquittoConf = `
listener PORT 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location DIR/
max_inflight_messages 0
log_dest stderr
log_type error
`

// Mosquitto starts Debian's mosquitto with persistence on.
func Mosquitto(ctx context.Context, parent string) (*Server, error) {
	return mosquitto(ctx, parent, Server{Name: "mosquitto"}, mosquittoConf)
}

// MosquittoTLS is Mosquitto with a second listener, for TLS.
func MosquittoTLS(ctx context.Context, parent string, c *Certificate) (*Server, error) {
	secure, err := c.broker()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(secure.Addr)
	if err != nil {
		return nil, err
	}
	conf := mosquittoConf + fmt.Sprintf("listener %s 127.0.0.1\ncertfile %s\nkeyfile %s\n", port, c.CertFile, c.KeyFile)
	return mosquitto(ctx, parent, Server{Name: "mosquitto", Secure: secure}, conf)
}

// MosquittoAutosave starts one that writes its database every second, which
// is as durable as it can be made: up to a second of what it acknowledged is
// lost, and more on a power cut, because it does not sync.
func MosquittoAutosave(ctx context.Context, parent string) (*Server, error) {
	return mosquitto(ctx, parent, Server{Name: "mosquitto-1s"}, mosquittoConf+"autosave_interval 1\n")
}

func mosquitto(ctx context.Context, parent string, s Server, config string) (*Server, error) {
	program, err := findMosquitto(ctx)
	if err != nil {
		return nil, err
	}
	dir, addr, conf, err := prepare(parent, s.Name, config)
	if err != nil {
		return nil, err
	}
	s.Plain.Addr = addr
	return start(ctx, s, dir, program, "-c", conf)
}

// findMosquitto installs the package as root where there is apt-get, without
// letting it start the service.
func findMosquitto(ctx context.Context) (string, error) {
	const sbin = "/usr/sbin/mosquitto" // often not on the path
	if _, err := os.Stat(sbin); err == nil {
		return sbin, nil
	}
	if program, err := exec.LookPath("mosquitto"); err == nil {
		return program, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", errors.New("mosquitto is missing: install it (Debian: sudo apt-get install mosquitto) and try again")
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "mosquitto"}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // runlevel 1: start no service
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %v: %w\n%s", args, err, out)
		}
	}
	return sbin, nil
}
