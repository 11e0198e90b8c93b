package dev.evalops.runtime.mtls;

import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;

/** What holds for every connection, whatever the library that makes it would set. */
record Policy(Side side, @Nullable String serverName, ClientAuth clientAuth) {
  enum Side {
    CLIENT,
    SERVER
  }

  enum ClientAuth {
    NONE,
    WANTED,
    REQUIRED
  }

  boolean isClient() {
    return side == Side.CLIENT;
  }

  /** The host that the peer must prove to be. */
  @Nullable
  String peerHost(@Nullable String host) {
    return serverName == null ? host : serverName;
  }

  /** Changes the parameters and gives them back; for connections of our own context. */
  SSLParameters applyWithin(SSLParameters parameters) {
    apply(parameters);
    if (isClient()) {
      parameters.setEndpointIdentificationAlgorithm(""); // our trust manager checks the name
    }
    return parameters;
  }

  /** Changes the parameters and gives them back. */
  SSLParameters apply(SSLParameters parameters) {
    parameters.setProtocols(new String[] {"TLSv1.3"});
    if (isClient()) {
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      if (serverName != null) {
        parameters.setServerNames(ServerName.forSni(serverName));
      }
    } else {
      switch (clientAuth) {
        case REQUIRED -> parameters.setNeedClientAuth(true);
        case WANTED -> parameters.setWantClientAuth(true);
        case NONE -> parameters.setWantClientAuth(false); // clears "need" as well
      }
    }
    return parameters;
  }
}
