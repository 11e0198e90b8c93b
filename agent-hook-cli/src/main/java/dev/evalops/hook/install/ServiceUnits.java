package dev.evalops.hook.install;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The files by which systemd or launchd keeps the service: under a user of its own, on a socket in a folder of root.
 *
 * @param home of the hook
 * @param mac for launchd, else for systemd
 */
record ServiceUnits(Path home, boolean mac) {
  static final String USER = "evalops-hook";

  private static final String NAME = HostSettings.NAME;

  /** The launcher's client is a program in it; every macOS has it, and every Linux with git. */
  static final Path PERL = Path.of("/usr/bin/perl");

  /** Where the launcher reaches the service; not in the hook's own folder, which an upgrade replaces. */
  Path socket() {
    return mac ? Path.of("/var/db/" + NAME + "-run/socket") : Path.of("/run", NAME, "socket");
  }

  /**
   * What is written.
   *
   * @param root of the file system
   * @return the text of each file
   * @throws NotUnderstoodException if the path of the hook cannot stand in it
   */
  Map<Path, String> files(Path root) throws NotUnderstoodException {
    if (!home.toString().matches("[A-Za-z0-9/._+-]+")) {
      throw new NotUnderstoodException(
          "the path " + home + " cannot be written into a unit; install the hook elsewhere");
    }
    Map<Path, String> files = new LinkedHashMap<>();
    if (mac) {
      files.put(root.resolve("Library/LaunchDaemons/dev.evalops.agent-hook.plist"), plist());
    } else {
      files.put(root.resolve("etc/sysusers.d/" + NAME + ".conf"), sysuser());
      files.put(root.resolve("etc/systemd/system/" + NAME + ".socket"), socketUnit());
      files.put(root.resolve("etc/systemd/system/" + NAME + ".service"), serviceUnit());
    }
    return files;
  }

  /**
   * What the administrator does then, one command a line; only the service may read the token and the key from now on.
   *
   * @param managedFile has the token
   */
  String start(Path managedFile) {
    String user = mac ? "_" + USER : USER;
    String secret = "chgrp " + user + " %1$s && chmod 640 %1$s\n";
    String secrets =
        secret.formatted(managedFile) + secret.formatted("<the file of EVALOPS_KEY_FILE>");
    return mac
        ? "dscl . -create /Groups/" + user + " PrimaryGroupID 450\n"
            + "sysadminctl -addUser " + user
            + " -UID 450 -GID 450 -shell /usr/bin/false -home /var/empty\n"
            + "install -d -m 700 -o " + user + " /var/db/" + NAME + "\n"
            + "install -d -m 755 " + socket().getParent() + "\n"
            + secrets
            + "launchctl bootstrap system /Library/LaunchDaemons/dev.evalops.agent-hook.plist\n"
        : "systemd-sysusers " + NAME + ".conf\n"
            + secrets
            + "systemctl daemon-reload\n"
            + "systemctl enable --now " + NAME + ".socket " + NAME + ".service\n";
  }

  /** What the administrator does when it shall be gone. */
  String stop() {
    return mac
        ? "launchctl bootout system/dev.evalops.agent-hook\n"
        : "systemctl disable --now " + NAME + ".socket " + NAME
            + ".service\nsystemctl daemon-reload\n";
  }

  private static String sysuser() {
    return "u " + USER + " - \"EvalOps agent hook\"\n";
  }

  private String socketUnit() {
    return """
        [Unit]
        Description=Socket of the EvalOps agent hook

        [Socket]
        ListenStream=%s
        SocketMode=0666
        DirectoryMode=0755
        RemoveOnStop=yes

        [Install]
        WantedBy=sockets.target
        """.formatted(socket());
  }

  private String serviceUnit() {
    return """
        [Unit]
        Description=EvalOps agent hook
        Requires=%1$s.socket
        After=%1$s.socket

        [Service]
        ExecStart=%2$s/bin/%1$s serve
        StandardInput=socket
        StandardOutput=journal
        StandardError=journal
        User=%3$s
        StateDirectory=%1$s
        StateDirectoryMode=0700
        UMask=0077
        Restart=on-failure
        LimitCORE=0
        NoNewPrivileges=yes
        CapabilityBoundingSet=
        ProtectSystem=full
        ProtectHome=yes
        PrivateTmp=yes
        PrivateDevices=yes
        ProtectKernelTunables=yes
        ProtectControlGroups=yes
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
        RestrictSUIDSGID=yes

        [Install]
        WantedBy=multi-user.target
        """.formatted(NAME, home, USER);
  }

  private String plist() {
    return """
        <?xml version="1.0" encoding="UTF-8"?>
        <!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
        <plist version="1.0">
        <dict>
          <key>Label</key>
          <string>dev.evalops.agent-hook</string>
          <key>UserName</key>
          <string>_%3$s</string>
          <key>ProgramArguments</key>
          <array>
            <string>%2$s/bin/%1$s</string>
            <string>serve</string>
          </array>
          <key>EnvironmentVariables</key>
          <dict>
            <key>STATE_DIRECTORY</key>
            <string>/var/db/%1$s</string>
          </dict>
          <key>StandardErrorPath</key>
          <string>/var/db/%1$s/error.log</string>
          <key>Umask</key>
          <integer>63</integer>
          <key>inetdCompatibility</key>
          <dict>
            <key>Wait</key>
            <true/>
          </dict>
          <key>Sockets</key>
          <dict>
            <key>Listener</key>
            <dict>
              <key>SockPathName</key>
              <string>%4$s</string>
              <key>SockPathMode</key>
              <integer>438</integer>
            </dict>
          </dict>
        </dict>
        </plist>
        """.formatted(NAME, home, USER, socket());
  }
}
