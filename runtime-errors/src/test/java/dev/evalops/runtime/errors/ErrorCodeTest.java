package dev.evalops.runtime.errors;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.lang.reflect.Modifier;
import java.sql.SQLException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ErrorCodeTest {
  private static final Map<String, ErrorCode> CONSTANTS = Arrays.stream(ErrorCode.class.getFields())
      .filter(field -> Modifier.isStatic(field.getModifiers()))
      .map(field -> {
        try {
          return (ErrorCode) field.get(null);
        } catch (IllegalAccessException e) {
          throw new AssertionError(e);
        }
      })
      .collect(Collectors.toMap(ErrorCode::code, code -> code));

  @ParameterizedTest
  @CsvSource({
    "invalid_input,    400, invalid_argument,    invalid input,                        NEVER",
    "invalid_json,     400, invalid_argument,    invalid input,                        NEVER",
    "unauthorized,     401, unauthenticated,     authentication required,              NEVER",
    "forbidden,        403, permission_denied,   forbidden,                            NEVER",
    "not_found,        404, not_found,           resource not found,                   NEVER",
    "conflict,         409, already_exists,      request conflicts with current state, AFTER_READING",
    "version_conflict, 412, failed_precondition, request conflicts with current state, AFTER_READING",
    "rate_limited,     429, resource_exhausted,  rate limit exceeded,                  SAME_CALL",
    "unavailable,      503, unavailable,         service unavailable,                  SAME_CALL",
    "internal_error,   500, internal,            internal error,                       NEVER",
  })
  void constantsMapAsThePublishedTableSays(
      String name, int status, String connect, String message, ErrorCode.Retry retry) {
    ErrorCode code = CONSTANTS.get(name);
    assertThat(code.httpStatus()).isEqualTo(status);
    assertThat(code.connectCode().protocolName()).isEqualTo(connect);
    assertThat(code.defaultMessage()).isEqualTo(message);
    assertThat(code.retry()).isEqualTo(retry);
  }

  @Test
  void thereAreTenConstants() {
    assertThat(CONSTANTS).hasSize(10);
  }

  @ParameterizedTest
  @CsvSource({
    "canceled, 499", "unknown, 500", "invalid_argument, 400", "deadline_exceeded, 504",
    "not_found, 404", "already_exists, 409", "permission_denied, 403", "resource_exhausted, 429",
    "failed_precondition, 400", "aborted, 409", "out_of_range, 400", "unimplemented, 501",
    "internal, 500", "unavailable, 503", "data_loss, 500", "unauthenticated, 401"
  })
  void connectCodesHaveTheProtocolsNamesAndStatuses(String name, int status) {
    assertThat(Arrays.stream(ConnectCode.values())
            .filter(code -> code.protocolName().equals(name)))
        .singleElement()
        .extracting(ConnectCode::httpStatus)
        .isEqualTo(status);
    assertThat(ConnectCode.values()).hasSize(16);
  }

  @Test
  void definesACodeInOneLine_andTellsWhetherTryingAgainHelps() {
    ErrorCode quota =
        ErrorCode.of("quota_exceeded", 429, ConnectCode.RESOURCE_EXHAUSTED, "quota exceeded");
    assertThat(quota.retry()).isEqualTo(ErrorCode.Retry.SAME_CALL);
    assertThat(ErrorCode.of("invalid_note-id.v2", 400, ConnectCode.INVALID_ARGUMENT, "x")
            .retry())
        .isEqualTo(ErrorCode.Retry.NEVER);
    ErrorCode taken = new ErrorCode(
        "name_taken", 409, ConnectCode.ALREADY_EXISTS, "name is taken", ErrorCode.Retry.NEVER);
    assertThat(taken.retry()).isEqualTo(ErrorCode.Retry.NEVER);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "1st", "a b", "a\"b", "a\n", "é", "_a"})
  void refusesACodeThatIsNoName(String code) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ErrorCode.of(code, 400, ConnectCode.INTERNAL, "message"))
        .withMessageStartingWith("code must be a letter and ");
  }

  @Test
  void refusesACodeThatIsTooLong() {
    assertThat(
            ErrorCode.of("a".repeat(64), 400, ConnectCode.INTERNAL, "message").code())
        .hasSize(64);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ErrorCode.of("a".repeat(65), 400, ConnectCode.INTERNAL, "message"));
  }

  @ParameterizedTest
  @ValueSource(ints = {-1, 0, 200, 399, 600})
  void refusesAStatusThatIsNoError(int status) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ErrorCode.of("code", status, ConnectCode.INTERNAL, "message"))
        .withMessage("httpStatus must be between 400 and 599: " + status);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "\u00a0", "\u0085\u3000"})
  void refusesABlankDefaultMessage(String message) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ErrorCode.of("taken", 409, ConnectCode.ABORTED, message))
        .withMessage("defaultMessage must not be blank");
  }

  @Test
  void reportsEveryProblemAtOnce() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ErrorCode.of("", 7, ConnectCode.INTERNAL, " "))
        .withMessageContaining("code must be ")
        .withMessageContaining("httpStatus must be between 400 and 599: 7")
        .withMessageContaining("defaultMessage must not be blank");
  }

  @Test
  void findsTheFirstCodeInTheChainOfCauses() {
    ServiceException inner = ServiceException.of(ErrorCode.NOT_FOUND).op("note.read");
    ServiceException outer = ServiceException.of(ErrorCode.UNAVAILABLE, inner).op("note.list");
    assertThat(ErrorCode.codeOf(inner)).contains(ErrorCode.NOT_FOUND);
    assertThat(ErrorCode.codeOf(new IOException(new RuntimeException(outer))))
        .contains(ErrorCode.UNAVAILABLE);
    assertThat(ErrorCode.codeOf(new IOException("disk"))).isEmpty();
  }

  @Test
  void endsOnACycleOfCauses() {
    RuntimeException a = new RuntimeException("a");
    RuntimeException b = new RuntimeException("b", a);
    a.initCause(b);
    assertThat(ErrorCode.codeOf(a)).isEmpty();
    assertThat(ErrorResponse.of(b).status()).isEqualTo(500);
  }

  @Test
  void exceptionReadsAsOpAndMessage() {
    SQLException cause = new SQLException("password authentication failed for user app at db-7");
    ServiceException explicit =
        ServiceException.of(ErrorCode.UNAVAILABLE, "try later", cause).op("note.read");
    assertThat(explicit).hasMessage("note.read: try later").hasCause(cause);
    assertThat(explicit.op()).hasValue("note.read");
    assertThat(explicit.code()).isEqualTo(ErrorCode.UNAVAILABLE);
    assertThat(ServiceException.of(ErrorCode.UNAVAILABLE, cause).op("note.read"))
        .hasMessage("note.read: service unavailable")
        .hasCause(cause);
    assertThat(ServiceException.of(ErrorCode.NOT_FOUND, " ").op("note.read"))
        .hasMessage("note.read: resource not found")
        .hasNoCause();
  }

  @Test
  void refusesNullsByName() {
    assertThatExceptionOfType(NullPointerException.class)
        .isThrownBy(() -> ServiceException.of(ErrorCode.NOT_FOUND, "message").op(null))
        .withMessage("op");
    assertThatExceptionOfType(NullPointerException.class)
        .isThrownBy(() -> ErrorCode.of(null, 400, ConnectCode.INTERNAL, "message"))
        .withMessage("code");
  }

  @Test
  void exceptionSurvivesSerialization() throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
      out.writeObject(ServiceException.of(ErrorCode.CONFLICT, "name is taken").op("note.write"));
    }
    try (ObjectInputStream in =
        new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
      Throwable read = (Throwable) in.readObject();
      assertThat(ErrorResponse.of(read))
          .isEqualTo(new ErrorResponse(ErrorCode.CONFLICT, "name is taken"));
    }
  }

  @Test
  void codesAreComparedByValue() {
    assertThat(List.of(ErrorCode.NOT_FOUND))
        .contains(ErrorCode.of("not_found", 404, ConnectCode.NOT_FOUND, "resource not found"));
  }
}
