package edge

import (
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/page"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/gate"
)

// openGuard reads who may connect. A file that is wrong is an error: a node whose
// rules cannot be read lets nobody in, so it does not start.
func openGuard(m *config.MQTT, places *gate.Gate) (*auth.Guard, error) {
	g, err := auth.Open(auth.Options{
		AllowAnonymous: m.AnonymousMayConnect(), PasswordFile: m.PasswordFile, ACLFile: m.ACLFile,
		CertFile: m.TLSCertFile, KeyFile: m.TLSKeyFile, ClientCAFile: m.TLSClientCAFile, CRLFile: m.TLSCRLFile,
		CertificateUser: m.CertificateUser, ClientIDBinding: m.ClientIDIs,
		JWT: auth.JWTOptions{KeysFile: m.JWTKeysFile, Issuer: m.JWTIssuer, Audience: m.JWTAudience}, Gate: places,
	})
	if err != nil {
		return nil, fmt.Errorf("%w; nothing was started: correct the file, or take its key out of [mqtt]", err)
	}
	return g, nil
}

// openViewers reads who may look at the status page.
func openViewers(s *config.Status) (*page.Guard, error) {
	g, err := page.OpenGuard(s.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("%w; nothing was started: correct the file, or let [status] listen on 127.0.0.1 without one", err)
	}
	return g, nil
}

// ReadFiles reads all files that the configuration names, as a start does, and says
// what is wrong with them. It opens nothing for writing.
func ReadFiles(cfg *config.Config) error {
	_, door := openGuard(&cfg.MQTT, gate.New(gate.Places()))
	_, viewers := openViewers(&cfg.Status)
	_, kafka := uplinkConfig(cfg)
	return errors.Join(door, viewers, kafka)
}

// Reload reads the files again that say who may connect and do what: passwords,
// rights, keys and certificates, and the token of the status page, which stands for
// itself. If one of them is wrong, all that was read before
// stays in force, and the node is yellow until a reload succeeds. What a client may
// do from now on is what the new files say; those whose password, token key or
// certificate was withdrawn are disconnected, and all others stay. It may be
// called at any time.
func (n *Node) Reload() {
	if err := errors.Join(n.viewers.Reload(), n.guard.Reload()); err != nil {
		text := err.Error()
		n.badReload.Store(&text)
		n.logger.Error("the files that say who may connect were not reloaded; what was read before stays in force", "error", err)
		return
	}
	n.badReload.Store(nil)
	n.logger.Info("reloaded the files that say who may connect", "disconnected", n.door.Recheck())
}
